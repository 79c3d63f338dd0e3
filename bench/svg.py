"""Small charts as SVG text, coloured by the page's CSS variables so that they follow light and dark."""
import html
import math

COLOURS = ["var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)"]


def text(x, y, content, anchor="start", size=12, extra=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="var(--ink)" {extra}>'
            f"{html.escape(str(content))}</text>")


def frame(width, height, body, title):
    return (f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}" '
            f'style="max-width:{width}px">{body}</svg>')


def bars(rows, title, unit="x", reference=1.0, log=True):
    """Horizontal bars, (label, value, note) a row; a line marks the reference value."""
    left, right, step, width = 245, 150, 24, 820
    height = len(rows) * step + 34
    values = [v for _, v, _ in rows if v] + [reference]
    low, high = (min(values) / 1.15, max(values)) if log else (0, max(values))

    def x(v):
        share = math.log(v / low) / math.log(high / low) if log else v / high
        return left + share * (width - left - right)
    out = []
    for i, (label, value, note) in enumerate(rows):
        y = 8 + i * step
        out.append(text(left - 8, y + 13, label, "end"))
        if not value:
            out.append(text(left + 4, y + 13, note))
            continue
        colour = "var(--c1)" if value >= reference else "var(--bad)"
        out.append(f'<rect x="{left}" y="{y}" width="{max(1.0, x(value) - left):.1f}" height="17" rx="2" fill="{colour}"/>')
        out.append(text(x(value) + 5, y + 13, f"{value:.2f}{unit}  {note}"))
    bottom = 8 + len(rows) * step
    out.append(f'<line x1="{x(reference):.1f}" x2="{x(reference):.1f}" y1="2" y2="{bottom}" stroke="var(--ink)" '
               'stroke-dasharray="3 3"/>')
    out.append(text(x(reference), bottom + 16, f"{reference:g}{unit}", "middle", 11))
    return frame(width, height, "".join(out), title)


def ticks(low, high, log):
    if not log:
        step = 10 ** math.floor(math.log10(high - low))
        step *= next(s for s in (0.2, 0.5, 1, 2) if (high - low) / (step * s) <= 8)
        return [low + i * step for i in range(int((high - low) / step) + 1)]
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [m * 10.0 ** e for e in exponents for m in (1, 2, 5) if low <= m * 10.0 ** e <= high]
    return found if len(found) < 9 else [t for t in found if f"{t:e}".startswith("1")]


def lines(series, title, x_label, y_label, log_x=False, log_y=True, ceilings=()):
    """series: {name: [(x, y)]} as lines with dots; ceilings: [(name, [(x, y)])] drawn thin and dashed."""
    width, height, left, right, top, bottom = 820, 420, 64, 20, 14, 46
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
    out.append(text(0, 0, y_label, "middle", 12, f'transform="translate(14 {height / 2}) rotate(-90)"'))
    for name, data in ceilings:
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in data)
        out.append(f'<polyline points="{path}" fill="none" stroke="var(--ink)" stroke-dasharray="5 4" opacity=".6"/>')
        out.append(text(x(data[-1][0]), y(data[-1][1]) - 5, name, "end", 11))
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
    left, right, step, width = 190, 90, 30, 820
    height = len(rows) * step + 12
    longest = max(sum(parts.values()) for _, parts in rows)
    out = []
    for i, (label, parts) in enumerate(rows):
        y, at = 6 + i * step, float(left)
        out.append(text(left - 8, y + 15, label, "end"))
        for k, kind in enumerate(kinds):
            span = parts.get(kind, 0) / longest * (width - left - right)
            if span > 0:
                out.append(f'<rect x="{at:.1f}" y="{y}" width="{span:.1f}" height="21" fill="{COLOURS[k % 6]}"/>')
            at += span
        out.append(text(at + 6, y + 15, f"{sum(parts.values()):.0f} {unit}"))
    return frame(width, height, "".join(out), title) + legend_html(kinds)


def legend_html(names):
    return '<p class="legend">' + "".join(
        f'<span><i style="background:{COLOURS[i % len(COLOURS)]}"></i>{html.escape(n)}</span>'
        for i, n in enumerate(names)) + "</p>"
