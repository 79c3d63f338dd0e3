#!/usr/bin/env python3
"""Times networks in PyTorch as they are and after replk.torch.optimize, in both of PyTorch's layouts: in one process, of which
the runs alternate; medians, and the median of the paired ratios. Outputs are compared first, and state_dicts.

    PYTHONPATH=python REPLK_LIBRARY=build/libreplk_cpu.so python3 bench/peers/optimize.py [NETWORK...] [--authors FOLDER]
        [--layouts nchw,channels-last] [--threads N] [--rounds N] [--seconds S] [--patience S] [--json FILE]
    ... --train --authors FOLDER             a step of training of RepLKNet-31B, batch 2
    ... --losses 20 --authors FOLDER         its losses with and without, over that many steps
    ... --table FILE                         the rows of FILE in Markdown

timm's networks, and the authors' with their checkouts (bench/peers/authors.py). A row of FILE is replaced when it is measured
again.
"""
import argparse
import copy
import functools
import json
import os
import statistics
import subprocess
import sys
import time
import warnings

import authors
import replk
import replk.torch
import torch

TIMM = ("convnext_tiny", "convnextv2_tiny", "inception_next_tiny", "fastvit_t8", "focalnet_tiny_srf", "convformer_s18",
        "caformer_s18", "starnet_s1", "edgenext_small", "rdnet_tiny", "mambaout_tiny", "hgnetv2_b0", "efficientnet_b0",
        "mobilenetv4_conv_small")
LAYOUTS = {"nchw": torch.contiguous_format, "channels-last": torch.channels_last}
TOLERANCE = 1e-5  # of the output's largest value


def build(name, folder):
    """(network in eval mode, side of its images), with seeded weights and statistics; layer scales as after training, so that
    what depthwise layers compute is seen in the output."""
    torch.manual_seed(1)
    if name in authors.NETWORKS:
        network, side = authors.build(name, folder, plain=True), 224
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import timm

            network = timm.create_model(name)
        side = network.default_cfg["input_size"][-1]
    with torch.no_grad():
        for key, t in network.state_dict().items():
            if key.endswith("running_mean"):
                t.normal_(0, 0.1)
            elif key.endswith("running_var"):
                t.uniform_(0.8, 1.25)
            elif t.dim() == 1 and key.endswith(("gamma", "layer_scale1.scale", "layer_scale2.scale")) or "layer_scale" in key:
                t.fill_(0.2)
            elif t.dim() == 4 and t.shape[1] == 1 and t.shape[-1] * t.shape[-2] >= 11:
                t.normal_(0, (t.shape[-1] * t.shape[-2]) ** -0.5)
    return network.eval(), side


def seconds(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def alternate(runs, args, least=0.02):
    """{name: seconds of each round}: of one run, or of as many as take `least` together. A round runs all, and all again in
    the other order; it counts if both runs of each agree within 10 %, since others may use the machine. As many count as fit in
    args.seconds, at least args.rounds, unless that takes longer than args.patience: then all count."""
    counts, kept, others = {}, [], []
    for name, run in runs.items():
        first = seconds(run)  # what is made once is made here
        counts[name] = 1 if first > 1 else max(1, int(least / seconds(run)))
    begin = time.perf_counter()
    while True:
        both = {name: [] for name in runs}
        for name in [*runs, *reversed(runs)]:
            both[name].append(seconds(lambda: [runs[name]() for _ in range(counts[name])]) / counts[name])
        quiet = all(max(pair) <= 1.1 * min(pair) for pair in both.values())
        (kept if quiet else others).append({name: sum(pair) / 2 for name, pair in both.items()})
        spent = time.perf_counter() - begin
        if len(kept) >= args.rounds and spent >= args.seconds or spent >= args.patience:
            break
    rounds = kept if len(kept) >= args.rounds else kept + others
    return {name: [of[name] for of in rounds] for name in runs}


def row_of(times, **facts):
    before = times["before"]
    row = {**facts, "ms": {name: 1e3 * statistics.median(of) for name, of in times.items()}, "rounds": times}
    row["over_before"] = {name: statistics.median(a / b for a, b in zip(of, before)) for name, of in times.items()
                          if name != "before"}
    return row


def measure(name, layout, args):
    network, side = build(name, args.authors)
    network = network.to(memory_format=LAYOUTS[layout])
    x = torch.randn(1, 3, side, side).contiguous(memory_format=LAYOUTS[layout])
    keys, values = list(network.state_dict()), list(network.state_dict().values())
    with torch.inference_mode():
        forms, expected, differences = {"before": network}, network(x), {}
        for form, fuse in (("optimized", False), ("fused", True)):
            forms[form] = copy.deepcopy(network)
            report = replk.torch.optimize(forms[form], fuse=fuse)
            differences[form] = ((forms[form](x) - expected).abs().max() / expected.abs().max()).item()
            state = forms[form].state_dict()
            same = list(state) == keys and all(map(torch.equal, state.values(), values))
            if not differences[form] <= TOLERANCE or not same:
                raise SystemExit(f"{name}, {layout}, {form}: off by {differences[form]:.1e} of the largest, state_dict "
                                 f"{'the same' if same else 'changed'}; nothing is timed")
        times = alternate({form: functools.partial(of, x) for form, of in forms.items()}, args)
    return row_of(times, network=name, layout=layout, side=side, batch=1, swapped=len(report.swapped), fused=len(report.fused),
                  differences=differences)


class Training:
    """RepLKNet-31B with SGD on seeded images, batch 2."""

    def __init__(self, layout, args):
        self.network = build("replknet-31b", args.authors)[0].train().to(memory_format=LAYOUTS[layout])
        self.x = torch.randn(2, 3, args.size, args.size).contiguous(memory_format=LAYOUTS[layout])
        self.y = torch.tensor([3, 700])
        self.optimizer = torch.optim.SGD(self.network.parameters(), 1e-4, momentum=0.9)

    def step(self):
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self.network(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def measure_step(layout, args):
    before, optimized = Training(layout, args), Training(layout, args)
    replk.torch.optimize(optimized.network)
    times = alternate({"before": before.step, "optimized": optimized.step}, args)
    return row_of(times, network="replknet-31b", layout=layout, side=args.size, batch=2, training=True)


def losses(layout, args):
    row = {"network": "replknet-31b", "layout": layout, "side": args.size, "batch": 2, "steps": args.losses}
    for form in ("before", "optimized"):
        training = Training(layout, args)
        if form == "optimized":
            replk.torch.optimize(training.network)
        row[form] = [training.step() for _ in range(args.losses)]
    row["largest_difference"] = max(abs(a - b) / abs(b) for a, b in zip(row["optimized"], row["before"]))
    return row


def context():
    return {"cpu": f"{replk.cpu_info().brand}, {replk.cpu_info().isa}", "torch": torch.__version__, "replk": replk.version(),
            "commit": subprocess.run(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "rev-parse", "--short", "HEAD"],
                                     capture_output=True, text=True).stdout.strip(), "date": time.strftime("%Y-%m-%d")}


def same_row(a, b):
    return all(a.get(key) == b.get(key) for key in ("network", "layout", "side", "batch", "threads", "training", "steps"))


def keep(row, path):
    rows = []
    if os.path.exists(path):
        with open(path) as file:
            rows = [other for other in json.load(file)["rows"] if not same_row(row, other)]
    with open(path, "w") as file:
        json.dump({"context": context(), "rows": [*rows, row]}, file, indent=1)


def say(row):
    name = f"{row['network']} {row['side']}x{row['side']}, batch {row['batch']}, {row['layout']}, {row['threads']} thread(s)"
    if "steps" in row:
        print(f"{name}: losses of {row['steps']} steps differ by at most {row['largest_difference']:.1e} of theirs "
              f"({row['before'][0]:.4f} to {row['before'][-1]:.4f})", flush=True)
        return
    of = ", ".join(f"{form} {row['ms'][form]:.1f} ({ratio:.2f} of before)" for form, ratio in row["over_before"].items())
    off = "" if "differences" not in row else f"; off by {max(row['differences'].values()):.1e}"
    print(f"{name}{', training' if row.get('training') else ''}: before {row['ms']['before']:.1f} ms, {of}{off}", flush=True)


def table(path):
    """Markdown: a line a network, both layouts."""
    with open(path) as file:
        rows = [row for row in json.load(file)["rows"] if "differences" in row]
    print("| network | layers | NCHW: before, ms | after | `fuse=True` | channels-last: before, ms | after | `fuse=True` |")
    print("| --- " * 8 + "|")
    for name in dict.fromkeys(row["network"] for row in rows):
        of = {row["layout"]: row for row in rows if row["network"] == name}
        cells = [name, str(next(iter(of.values()))["swapped"])]
        for layout in LAYOUTS:
            if layout not in of:
                cells += ["", "", ""]
                continue
            ratio = of[layout]["over_before"]
            cells += [f"{of[layout]['ms']['before']:.1f}"] + [f"{of[layout]['ms'][form]:.1f} (**{1 / ratio[form]:.2f}×**)"
                                                              for form in ("optimized", "fused")]
        print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--authors", metavar="FOLDER", help="checkouts of the authors' repositories")
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="of a row, if that is more than so many rounds")
    parser.add_argument("--patience", type=float, default=30, help="seconds after which rounds that others disturbed count too")
    parser.add_argument("--size", type=int, default=224, help="of the images of --train and --losses")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--losses", type=int, metavar="STEPS")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--table", metavar="FILE")
    args = parser.parse_args()
    if args.table:
        return table(args.table)
    torch.set_num_threads(args.threads)
    training = args.train or args.losses
    networks = args.networks or ([] if training else [*TIMM, *(authors.NETWORKS if args.authors else ())])
    if not args.authors and (training or set(networks) & set(authors.NETWORKS)):
        parser.error("--authors FOLDER is needed for the authors' networks")
    what = [lambda layout, name=name: measure(name, layout, args) for name in networks]
    what += [lambda layout: measure_step(layout, args)] * args.train + [lambda layout: losses(layout, args)] * bool(args.losses)
    for run in what:
        for layout in args.layouts.split(","):
            row = {**run(layout), "threads": args.threads}
            say(row)
            if args.json:
                keep(row, args.json)


if __name__ == "__main__":
    sys.exit(main())
