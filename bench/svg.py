"""Small charts: lines as SVG, bars as HTML that rearranges on a phone. Coloured by the page's CSS variables, so that they
follow light and dark."""
import html
import math

COLOURS = ["var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)"]


def text(x, y, content, anchor="start", size=12, extra=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="var(--ink)" {extra}>'
            f"{html.escape(str(content))}</text>")


def frame(width, height, body, title):
    return (f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}" '
            f'style="max-width:{width}px">{body}</svg>')


def bar(label, parts, note):
    """A labelled bar of (share of the full width, colour) parts."""
    pieces = "".join(f'<i style="width:{100 * share:.2f}%;background:{colour}"></i>' for share, colour in parts if share > 0)
    return (f'<div class="bar"><span>{html.escape(label)}</span><div class="track">{pieces}<b>{html.escape(note)}</b></div></div>')


def bars(rows, title, reference=1.0):
    """Horizontal bars on a logarithmic axis, (label, value, note) a row; a line marks the reference value."""
    values = [v for _, v, _ in rows if v] + [reference]
    low, high = min(values) / 1.15, max(values)

    def share(v):
        return 0.62 * math.log(v / low) / math.log(high / low)  # the rest is for the note
    out = []
    for label, value, note in rows:
        colour = "var(--c1)" if value and value >= reference else "var(--bad)"
        figure = f"{value:.3g}×, {note}" if value else note
        out.append(bar(label, [(share(value), colour)] if value else [], figure))
    return (f'<div class="bars" role="img" aria-label="{html.escape(title)}" style="--at:{100 * share(reference):.2f}%">'
            + "".join(out) + "</div>")


def ticks(low, high, log):
    if not log:
        step = 10 ** math.floor(math.log10(high - low))
        step *= next(s for s in (0.2, 0.5, 1, 2) if (high - low) / (step * s) <= 8)
        first = math.ceil(low / step)
        return [i * step for i in range(first, int(high / step) + 1)]
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [m * 10.0 ** e for e in exponents for m in (1, 2, 5) if low <= m * 10.0 ** e <= high]
    return found if len(found) < 9 else [t for t in found if f"{t:e}".startswith("1")]


def lines(series, title, x_label, y_label, log_x=False, log_y=True, ceilings=()):
    """series: {name: [(x, y)]} as lines with dots; ceilings: [(name, [(x, y)])] drawn thin and dashed."""
    width, height, left, right, top, bottom = 480, 330, 56, 14, 14, 44
    points = [p for s in series.values() for p in s] + [p for _, s in ceilings for p in s]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    low_x, high_x = min(xs), max(xs)
    low_y, high_y = (min(ys) / 1.2, max(ys) * 1.2) if log_y else (0, max(ys) * 1.05)

    def scale(v, low, high, log):
        return (math.log(v / low) / math.log(high / low)) if log else (v - low) / (high - low)

    def x(v):
        return left + scale(v, low_x, high_x, log_x) * (width - left - right)

    def y(v):
        return height - bottom - scale(v, low_y, high_y, log_y) * (height - top - bottom)
    out = []
    for t in ticks(low_y, high_y, log_y):
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{y(t):.1f}" y2="{y(t):.1f}" stroke="var(--grid)"/>')
        out.append(text(left - 6, y(t) + 4, f"{t:g}", "end", 11))
    for t in ticks(low_x, high_x, log_x):
        out.append(text(x(t), height - bottom + 16, f"{t:g}", "middle", 11))
    out.append(text((left + width - right) / 2, height - 8, x_label, "middle"))
    out.append(text(0, 0, y_label, "middle", 12, f'transform="translate(13 {(height - bottom) / 2:.0f}) rotate(-90)"'))
    for i, (name, data) in enumerate(ceilings):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in data)
        out.append(f'<polyline points="{path}" fill="none" stroke="var(--ink)" stroke-dasharray="5 4" opacity=".6"/>')
        out.append(text(x(data[-1][0]), y(data[-1][1]) + (-5 if i == 0 else 13 * i), name, "end", 11))  # roofs often meet
    for i, (name, data) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in sorted(data))
        joined = name and len(data) > 1 and not name.endswith(" ")
        if joined:
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.2"/>')
        out += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.6" fill="{colour}"/>' for a, b in data]
    legend = legend_html([n.strip() for n in series])
    return frame(width, height, "".join(out), title) + legend


def stacked(rows, kinds, title, unit="ms"):
    """Horizontal bars of parts: [(label, {kind: value})]."""
    longest = max(sum(parts.values()) for _, parts in rows)
    out = [bar(label, [(0.75 * parts.get(kind, 0) / longest, COLOURS[k % 6]) for k, kind in enumerate(kinds)],
               f"{sum(parts.values()):.0f} {unit}") for label, parts in rows]
    return f'<div class="bars" role="img" aria-label="{html.escape(title)}">' + "".join(out) + "</div>" + legend_html(kinds)


def legend_html(names):
    return '<p class="legend">' + "".join(
        f'<span><i style="background:{COLOURS[i % len(COLOURS)]}"></i>{html.escape(n)}</span>'
        for i, n in enumerate(names)) + "</p>"
