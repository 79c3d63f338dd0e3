"""Draws a run (schema.json) as one self-contained HTML page, light and dark, and as PNGs for the README."""
import html
import re

import svg

STYLE = """
:root{--paper:#fbfaf7;--ink:#22252b;--soft:#6a6f78;--grid:#e3e0d8;--card:#fff;--bad:#c8553d;
--c1:#2a6f97;--c2:#e09f3e;--c3:#5b8e7d;--c4:#9d6b99;--c5:#bc4b51;--c6:#8d99ae}
@media(prefers-color-scheme:dark){:root{--paper:#15181d;--ink:#e6e4df;--soft:#9aa0aa;--grid:#2c3138;--card:#1c2026;
--bad:#e07a5f;--c1:#61a5c2;--c2:#f2c14e;--c3:#81b29a;--c4:#c39bd3;--c5:#e56b6f;--c6:#adb5bd}}
body{font:16px/1.55 system-ui,sans-serif;background:var(--paper);color:var(--ink);margin:0 auto;max-width:900px;padding:1.2rem}
h1{font-size:1.7rem;line-height:1.2;margin:.4rem 0}h2{font-size:1.2rem;margin:2.2rem 0 .4rem}
p{margin:.5rem 0}.soft,figcaption{color:var(--soft);font-size:.9rem}figure{margin:1rem 0;overflow-x:auto}
svg{width:100%;height:auto;font-family:inherit}a{color:var(--c1)}code{overflow-wrap:anywhere}
.bar{display:flex;align-items:center;gap:.6rem;font-size:.85rem;line-height:1.3;padding:2px 0}
.bar>span{flex:0 0 15rem;text-align:right;overflow-wrap:anywhere}.track{flex:1;display:flex;align-items:center;position:relative}
.track i{height:1.1rem;flex:none}.track i:first-child{border-radius:2px 0 0 2px}.track b{font-weight:400;margin-left:.45rem;white-space:nowrap}
.bars[style] .track:before{content:"";position:absolute;left:var(--at);top:-3px;bottom:-3px;border-left:1.5px dashed var(--ink)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:0 1.2rem}
@media(max-width:600px){.bar{display:block;padding:3px 0}.bar>span{display:block;text-align:left}}
.big{display:flex;flex-wrap:wrap;gap:.8rem}.big div{background:var(--card);border:1px solid var(--grid);border-radius:8px;
padding:.7rem 1rem;flex:1 1 150px}.big b{display:block;font-size:1.7rem}
table{border-collapse:collapse;font-size:.82rem;width:100%}td,th{vertical-align:top;padding:.25rem .5rem;text-align:right;
border-bottom:1px solid var(--grid);white-space:nowrap}td:first-child,th:first-child{text-align:left}.scroll{overflow-x:auto}
td .soft,th .soft{font-weight:400;font-size:.75rem}
.legend span{margin-right:1rem;font-size:.85rem;white-space:nowrap;display:inline-block}.legend i{display:inline-block;width:.8em;height:.8em;
border-radius:2px;margin-right:.35em}
"""


def kernel_sizes(rows):
    """{map: {kernel: row}} of the suite `sizes`."""
    found = {}
    for row in rows:
        if row["suite"] == "sizes":
            match = re.match(r"n1c(\d+)h(\d+)w\d+k(\d+)", row["shape"])
            found.setdefault(int(match[2]), {})[int(match[3])] = row
    return found


def caption(content):
    return f"<figcaption>{content}</figcaption>"


def speed_up_section(rows):
    parts = []
    for suite in dict.fromkeys(r["suite"] for r in rows):
        if suite == "sizes":
            continue
        chosen = [r for r in rows if r["suite"] == suite]
        bars = [(r["shape"], r["ratio"], f"{r['ms']:.3g} ms" if r["ratio"] else f"{r['ms']:.3g} ms, oneDNN has only ref or gemm")
                for r in chosen]
        parts.append(f"<h2>{html.escape(suite)}: times faster than oneDNN's best layout</h2><figure>"
                     + svg.bars(bars, f"speed-up, suite {suite}")
                     + caption("Median of interleaved rounds, warm caches; logarithmic, the dashed line is oneDNN.") + "</figure>")
    return "".join(parts)


def sizes_section(rows):
    parts = []
    for side, kernels in sorted(kernel_sizes(rows).items()):
        series = {"libreplk_cpu": [(k, r["ms"]) for k, r in kernels.items()],
                  "oneDNN, best layout": [(k, r["best_peer_ms"]) for k, r in kernels.items() if r["best_peer_ms"]]}
        series = {k: v for k, v in series.items() if v}
        if len(series["libreplk_cpu"]) > 1:
            parts.append("<figure>" + svg.lines(series, f"latency against kernel size, {side} x {side}", "kernel size", "ms")
                         + caption(f"Map {side} × {side}, one layer, milliseconds on a logarithmic axis.") + "</figure>")
    return "<h2>Latency against kernel size</h2>" + f'<div class="charts">{"".join(parts)}</div>' if parts else ""


def roofline_section(run):
    limits, points = run["limits"], {}
    for row in run["rows"]:
        moved = row.get("bytes_moved", row.get("bytes"))  # its name in older runs
        if moved and row.get("real_gflop"):
            intensity = 1e9 * row["real_gflop"] / moved
            points.setdefault(row["algorithm"] + " ", []).append((intensity, row["real_gflop"] / row["ms"] * 1e3))
    if not points:
        return ""
    low = min(p[0] for s in points.values() for p in s) / 1.3
    high = max(p[0] for s in points.values() for p in s) * 1.3
    threads = run["context"]["threads"]

    def roof(bandwidth):
        peak = limits["fma_gflops"] * threads
        knee = peak / bandwidth
        return [(low, min(peak, low * bandwidth))] + ([(knee, peak)] if low < knee < high else []) + [
            (high, min(peak, high * bandwidth))]
    ceilings = [("L2, multiply-add", roof(limits["l2_gbs"] * threads)), ("memory", roof(limits["memory_gbs"]))]
    return ("<h2>Roofline</h2><figure>"
            + svg.lines(points, "roofline", "real operations per byte of tensors and weights", "GFLOP/s", log_x=True,
                        ceilings=ceilings)
            + caption("Real operations of the algorithm used, not those of the naive loop. An addition counts one, a "
                      "multiply-add two, so transforms, mostly additions, cannot reach the multiply-add roof.") + "</figure>")


def runtimes(measured):
    """The names of all runtimes that something was measured in, and a table's head of them with their versions."""
    names = list(dict.fromkeys(name for each in measured for name in each["ms"]))
    versions = {name: v for each in measured for name, v in each.get("versions", {}).items()}
    return names, "".join(f"<th>{html.escape(n)}<br><span class=\"soft\">{html.escape(versions.get(n, ''))}</span></th>" for n in names)


def layer_section(layers):
    if not layers:
        return ""
    names, head = runtimes(layers)
    body = "".join(f"<tr><td>{html.escape(layer['model'])}</td>" + "".join(
        f"<td>{layer['ms'][n]:.3g}</td>" if n in layer["ms"] else "<td>–</td>" for n in names) + "</tr>" for layer in layers)
    return ('<h2 id="layers">Single layers in other runtimes, ms</h2><div class="scroll"><table><tr><th>shape</th>' + head + "</tr>"
            + body + "</table></div>")


def network_section(networks):
    if not networks:
        return ""
    names, head = runtimes(networks)
    rows = []
    for n in networks:
        cells = "".join(f"<td>{n['ms'][name]:.1f}</td>" if name in n["ms"] else "<td>–</td>" for name in names)
        faster = f"{n['ratio']:.2f}×" if n["ratio"] else "–"
        rows.append(f"<tr><td>{html.escape(n['model'])} {n['size']}, {n['threads']} thr.</td>{cells}<td>{faster}</td></tr>")
    stacks = []
    for n in networks:
        kinds = {row["kind"]: row["ms"] for row in (n.get("replk") or {}).get("profile", [])}
        if kinds:
            stacks.append((f"{n['model']} {n['size']}, {n['threads']} thr.", kinds))
    drawn = ""
    if stacks:
        names = list(dict.fromkeys(k for _, parts in stacks for k in parts))
        drawn = "<figure>" + svg.stacked(stacks, names, "network latency by kind of layer") + caption(
            "Ours, by kind of layer.") + "</figure>"
    return ("<h2>Whole networks</h2>" + drawn + '<div class="scroll"><table><tr><th>network, ms</th>' + head
            + "<th>faster than<br>the best other</th></tr>"
            + "".join(rows) + "</table></div>")


def table_section(rows):
    head = "shape|tiling|ms|cold ms|best peer|peer ms|peer cold ms|ratio|nearest limit|of limit|error".split("|")
    body = []
    for r in rows:
        peers = "; ".join(f"{p['name']} {p['implementation']} {'not run' if p['ms'] is None else format(p['ms'], '.3g')}"
                          for p in r["peers"])
        cells = [f"<span title=\"{html.escape(peers)}\">{html.escape(r['shape'])}</span>", html.escape(r["tiling"]),
                 f"{r['ms']:.3g}", f"{r['ms_cold']:.3g}", html.escape(r["best_peer"] or "–"),
                 f"{r['best_peer_ms']:.3g}" if r["best_peer_ms"] else "–",
                 f"{r['best_peer_ms_cold']:.3g}" if r.get("best_peer_ms_cold") else "–",  # older runs have none
                 f"{r['ratio']:.2f}" if r["ratio"] else "–",
                 html.escape(r["limit"]), f"{r['percent_of_limit']:.0f} %", f"{r['max_relative_error']:.1e}"]
        body.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return ('<h2>Every row</h2><p class="soft">Hover or tap a shape for all of oneDNN\'s layouts; one that would run its '
            'reference code is named and not run.</p><div class="scroll"><table><tr>'
            + "".join(f"<th>{h}</th>" for h in head) + "</tr>" + "".join(body) + "</table></div>")


def headline(run):
    """Of the fp32 rows: oneDNN has no fast code of its own for the shorter types."""
    rows = [r for r in run["rows"] if not r["shape"].endswith(("bf16", "fp16"))]
    with_ratio = [r for r in rows if r["ratio"]]
    cards = []
    if with_ratio:
        top = max(with_ratio, key=lambda r: r["ratio"])
        cards.append((f"{top['ratio']:.1f}×", f"faster than oneDNN on {top['shape']}, the best row"))
        low = min(with_ratio, key=lambda r: r["ratio"])
        cards.append((f"{low['ratio']:.2f}×", f"on {low['shape']}, the worst row"))
    worst = max(r["max_relative_error"] for r in rows)
    cards.append((f"{worst:.1e}", "largest error over all fp32 rows, against double precision"))
    return '<div class="big">' + "".join(f"<div><b>{a}</b>{html.escape(b)}</div>" for a, b in cards) + "</div>"


def newest_onednn(run):
    """On AVX-512 a newer oneDNN has other depthwise code: what the one inside PyTorch reaches."""
    said = ("On AVX-512, oneDNN 3.3 and newer regroup taps in their depthwise kernel; the rows below are against "
            f"{html.escape(str(run['context']['versions'].get('onednn', '?')))}.")
    found = []
    for layer in run["layers"]:
        version = re.search(r"oneDNN [\d.]+", layer.get("versions", {}).get("torch", ""))
        if version and "replk" in layer["ms"]:
            found.append((layer["ms"]["torch"] / layer["ms"]["replk"], layer["model"], version[0]))
    if not found:
        return f'<p class="soft">{said} A newer one was not at hand.</p>'
    low, high = min(found), max(found)
    return (f'<p>{said} The newest at hand, {low[2]} inside PyTorch, takes {low[0]:.1f} (<code>{html.escape(low[1])}</code>) to '
            f'{high[0]:.1f} times as long as this library (<code>{html.escape(high[1])}</code>), PyTorch\'s own overhead '
            'included: see <a href="#layers">single layers in other runtimes</a>.</p>')


def page(run):
    c, limits = run["context"], run["limits"]
    missing = "".join(f"<li>{html.escape(m)}</li>" for m in run["missing"])
    wide = newest_onednn(run) if c["isa"] == "avx512" else ""
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>libreplk_cpu: benchmark report</title><style>{STYLE}</style>"
            f"<h1>Large-kernel convolution on this CPU</h1><p class=\"soft\">{html.escape(c['cpu'])}, {c['isa']}, "
            f"{c['threads']} of {c['cores']} cores, {html.escape(c['date'])}, commit {html.escape(c['commit'])}"
            f"{', quick run' if c['quick'] else ''}; "
            + ", ".join(f"{html.escape(k)} {html.escape(str(v))}" for k, v in c["versions"].items())
            + f"</p>{headline(run)}<p class=\"soft\">One core's limits, measured first: {limits['fma_gflops']:.0f} GFLOP/s "
              f"of multiply-adds, {limits['add_gops']:.0f} Gop/s of additions, loads {limits['load_gbs']:.0f} GB/s, L2 "
              f"{limits['l2_gbs']:.0f} GB/s, memory {limits['memory_gbs']:.0f} GB/s.</p>{wide}"
            + speed_up_section(run["rows"]) + sizes_section(run["rows"]) + network_section(run["networks"]) + layer_section(run["layers"])
            + roofline_section(run) + table_section(run["rows"])
            + (f"<h2>Left out</h2><ul>{missing}</ul>" if missing else "") + "</html>")


def write_pngs(run, folder):
    """speedup.png and sizes.png, for the README; needs matplotlib."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    chosen = [r for r in run["rows"] if r["suite"] in ("replknet", "slak", "convnext") and r["ratio"]]
    if chosen:
        figure, axes = pyplot.subplots(figsize=(8, 0.32 * len(chosen) + 1))
        axes.barh([r["shape"] for r in chosen][::-1], [r["ratio"] for r in chosen][::-1], color="#2a6f97")
        axes.axvline(1, color="#22252b", linestyle="--", linewidth=1)
        axes.set_xlabel("times faster than oneDNN's best layout")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(f"{folder}/speedup.png", dpi=110, bbox_inches="tight")
        pyplot.close(figure)
    for side, kernels in sorted(kernel_sizes(run["rows"]).items()):
        if side != 56:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 4))
        axes.plot(list(kernels), [r["ms"] for r in kernels.values()], "o-", color="#2a6f97", label="libreplk_cpu")
        peers = {k: r["best_peer_ms"] for k, r in kernels.items() if r["best_peer_ms"]}
        axes.plot(list(peers), list(peers.values()), "o-", color="#e09f3e", label="oneDNN, best layout")
        axes.set(yscale="log", xlabel=f"kernel size, map {side} × {side}", ylabel="ms")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(f"{folder}/sizes.png", dpi=110, bbox_inches="tight")
        pyplot.close(figure)
