#!/usr/bin/env python3
"""Renders README's figures from committed runs, one a machine: python3 bench/readme.py [--check]

Everything between the markers in README.md comes from the files RUNS and from nowhere else.
"""
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
README = os.path.join(ROOT, "README.md")
RUNS = [os.path.join(ROOT, "docs", "bench", name) for name in ("run.json", "zen3.json")]  # the newest first
BEGIN, END = "<!-- figures: bench/readme.py -->", "<!-- end of figures -->"
SHAPES = {
    "n1c128h56w56k31": "RepLKNet-31B, stage 1", "n1c256h28w28k29": "stage 2", "n1c512h14w14k27": "stage 3",
    "n1c1024h7w7k13": "stage 4", "n1c128h96w96k31": "stage 1 at 384", "n1c124h56w56k51x5,5x51,5x5": "SLaK-T, stage 1",
    "n1c96h56w56k7": "ConvNeXt-T, stage 1", "n1c128h56w56k5": "a small kernel", "n1c128h56w56k3": "the smallest",
}
NAMES = {"replk": "libreplk_cpu", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "PyTorch",
         "torch-compiled": "PyTorch, compiled"}


def threads(row):
    return "one thread" if row["threads"] == 1 else f"{row['threads']} threads"


def figures(run):
    context = run["context"]
    rows = {r["shape"]: r for r in run["rows"]}
    lines = [f"### {context['cpu']}, {context['isa']}",
             f"{threads(context).capitalize()}, {context['date']}, commit {context['commit']}, oneDNN "
             f"{context['versions']['onednn']}; batch 1, fp32, channels-last:", "",
             "| depthwise layer | shape | oneDNN's best, ms | here, ms | times faster |", "| --- | --- | --- | --- | --- |"]
    for shape, what in SHAPES.items():
        if shape in rows:
            r = rows[shape]
            lines.append(f"| {what} | `{shape}` | {r['best_peer_ms']:.3g} ({r['best_peer'].removeprefix('onednn ')}) | "
                         f"{r['ms']:.3g} | **{r['ratio']:.1f}** |")
    lines += ["", "| network | here, ms | best other runtime, ms | times faster |", "| --- | --- | --- | --- |"]
    for n in run["networks"]:
        if n["ratio"]:
            on = "" if n["threads"] == context["threads"] else f", {threads(n)}"
            lines.append(f"| {n['model']} at {n['size']}{on} | {n['ms']['replk']:.0f} | "
                         f"{n['ms'][n['best_peer']]:.0f} ({NAMES[n['best_peer']]}) | **{n['ratio']:.2f}** |")
    return "\n".join(lines)


def main():
    with open(README) as file:
        text = file.read()
    runs = []
    for path in RUNS:
        with open(path) as file:
            runs.append(json.load(file))
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    shown = "\n\n".join(figures(run) for run in runs)
    wanted = f"{head}{BEGIN}\n{shown}\n{END}{tail}"
    if not rest or END not in rest:
        sys.exit(f"README.md: the markers '{BEGIN}' and '{END}' are missing")
    if "--check" in sys.argv:
        if wanted != text:
            sys.exit("README.md: its figures are not those of the files in docs/bench; run python3 bench/readme.py")
        return
    with open(README, "w") as file:
        file.write(wanted)


if __name__ == "__main__":
    main()
