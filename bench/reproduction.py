#!/usr/bin/env python3
"""Writes docs/reproduction.md from one run of ./run bench and the trainings of python/guidelines.py:

    python3 bench/reproduction.py RUN.json [GUIDELINES.csv] > docs/reproduction.md

The trainings are docs/bench/guidelines.csv unless another file is named.
"""
import csv
import json
import pathlib
import re
import statistics
import sys

GUIDELINES = pathlib.Path(__file__).resolve().parents[1] / "docs" / "bench" / "guidelines.csv"

# RepLKNet (arXiv 2203.06717), table 1: ms of 24 layers, batch 64, 384 channels, GTX 2080 Ti; at kernels 3 and 31.
TABLE1 = {16: {"pytorch": (5.6, 171.4), "theirs": (5.6, 8.4)}, 32: {"pytorch": (21.9, 734.8), "theirs": (21.9, 96.7)},
          64: {"pytorch": (69.6, 3090.4), "theirs": (69.6, 431.7)}}
CANNOT = [
    "ImageNet accuracies (83.5 % and so on): they need the released weights and ImageNet; `replk eval` computes them where both are at hand.",
    "ADE20K, Cityscapes and COCO results: they need training and those data sets; `replk features` gives the backbone's maps.",
    "Throughput on a 2080 Ti, V100 or A100, batch 64 and 128: GPU figures; here the same ratios are taken on this CPU at batch 1.",
    "Effective receptive fields of RepLKNet-31B (table 10): they need released weights; [`replk erf`](erf.md) measures them, and those of the small network that ships.",
    "Shape bias of RepLKNet-31B (its paper's appendix, on the images of Geirhos et al.): needs released weights and those images; "
    "`replk eval --shape-bias DIR` computes it where both are at hand. What the small networks that ship say is in "
    "[shape_bias.md](shape_bias.md).",
    "SLaK's FLOPs after sparsity: its paper calls them theoretical, and a dense runtime does all of them.",
]


def table1(rows):
    found = {}
    for row in rows:
        match = re.fullmatch(r"n1c384h(\d+)w\d+k(\d+)", row["shape"])
        if row["suite"] == "table1" and match:
            found.setdefault(int(match[1]), {})[int(match[2])] = row
    lines = []
    for side, paper in TABLE1.items():
        kernels = found.get(side, {})
        if 3 not in kernels or 31 not in kernels:
            continue
        small, large = kernels[3], kernels[31]
        lines.append((f"Table 1, {side} × {side}: time at kernel 31 over kernel 3",
                      f"{paper['theirs'][1] / paper['theirs'][0]:.1f} (PyTorch: {paper['pytorch'][1] / paper['pytorch'][0]:.0f})",
                      f"{large['ms'] / small['ms']:.1f} ({large['ms']:.2f} ms over {small['ms']:.3f} ms; oneDNN: "
                      f"{large['best_peer_ms'] / small['best_peer_ms']:.0f})",
                      "./run bench --suites table1", "One layer at batch 1 here, 24 layers at batch 64 there."))
        lines.append((f"Table 1, {side} × {side}: speed-up at kernel 31",
                      f"{paper['pytorch'][1] / paper['theirs'][1]:.1f} over PyTorch 1.9 on a GPU",
                      f"{large['ratio']:.1f} over oneDNN's best layout ({large['best_peer']})",
                      "./run bench --suites table1", "Another device and another peer; both are the best library of their time."))
    return lines


def by_name(networks):
    return {(n["model"], n["size"]): n for n in networks}


def best_peer(network):
    peers = {k: v for k, v in network["ms"].items() if k != "replk"}
    name = min(peers, key=peers.get) if peers else None
    return name, peers.get(name)


def share(networks, rows):
    network = networks.get(("replknet-31b", "224x224"))
    if not network or "replk" not in network:
        return []
    ours = network["replk"]
    shapes = {r["shape"]: r for r in rows if r["suite"] == "replknet"}
    counts = {"n1c128h56w56k31": 2, "n1c256h28w28k29": 2, "n1c512h14w14k27": 18, "n1c1024h7w7k13": 2}
    before = ""
    if all(shape in shapes and shapes[shape]["best_peer_ms"] for shape in counts):
        theirs = sum(n * shapes[s]["best_peer_ms"] for s, n in counts.items())
        rest = ours["ms"] - ours["large_depthwise_ms"]
        before = f"{100 * theirs / (theirs + rest):.1f} % with oneDNN's depthwise kernels, "
    return [("Section 3: large depthwise layers' share of RepLKNet-31B's time", "49.5 % → 12.3 %",
             f"{before}{100 * ours['large_depthwise_ms'] / ours['ms']:.1f} % with ours ({ours['large_depthwise_ms']:.1f} of "
             f"{ours['ms']:.0f} ms)", "build/replk bench model replknet-31b --size 224 --threads 1 --profile",
             "Batch 1 on a CPU; taps outside the map cost nothing here.")]


def scaling(networks):
    large, small = networks.get(("replknet-31b", "224x224")), networks.get(("replknet-31b:k=3,3,3,3", "224x224"))
    if not large or not small:
        return []
    return [("Table 5: kernels 31-29-27-13 against 3-3-3-3, whole network", "+18.6 % FLOPs (15.3 against 12.9 G); no latency given",
             f"+{100 * (large['ms']['replk'] / small['ms']['replk'] - 1):.1f} % latency ({large['ms']['replk']:.0f} against "
             f"{small['ms']['replk']:.0f} ms)", "build/replk bench model replknet-31b:k=3,3,3,3 --size 224",
             "The paper never published a latency for this.")]


def against_swin(networks):
    lines = []
    for size, paper in (("224x224", 295.5 / 226.2), ("384x384", 97.0 / 67.9)):
        ours, swin = networks.get(("replknet-31b", size)), networks.get(("swin-b", size))
        if not ours or not swin:
            continue
        name, ms = best_peer(swin)
        lines.append((f"Table 6: RepLKNet-31B's speed over Swin-B's at {size.split('x')[0]}", f"{paper:.2f}",
                      f"{ms / ours['ms']['replk']:.2f} ({ours['ms']['replk']:.0f} against {ms:.0f} ms in {name})",
                      "python bench/peers/networks.py replknet-31b swin-b --size " + size.split("x")[0],
                      "Batch 1; Swin in whichever runtime runs it fastest."))
    return lines


def slak(networks, rows):
    lines = []
    shapes = {r["shape"]: r for r in rows if r["suite"] == "slak"}
    row = shapes.get("n1c124h56w56k51x5,5x51,5x5")
    if row:
        lines.append(("SLaK: 51 × 51 as stripes (51×5 + 5×51 + 5×5) at 56 × 56", "none published for a layer",
                      f"{row['ms']:.2f} ms, {row['ratio']:.1f} times faster than {row['best_peer']}",
                      "build/replk bench depthwise n1c124h56w56k51x5,5x51,5x5", f"Computed as `{row['tiling'].split()[0]}`."))
    network = networks.get(("slak-t", "224x224"))
    if network and network.get("ratio"):
        lines.append(("SLaK-T at 224, whole network", "754 to 1312 images/s on an A100 (two papers disagree)",
                      f"{1e3 / network['ms']['replk']:.1f} images/s, {network['ratio']:.2f} times the best other runtime",
                      "python bench/peers/networks.py slak-t", "Batch 1 on this CPU."))
    return lines


def guidelines(runs):
    """Tables 2 to 4 of the paper: lines of top-1 in per cent, theirs and ours."""
    ours = {}
    for run in runs:
        ours.setdefault(run["configuration"], []).append(100 * float(run["top1"]))
    paper = {"3x3": "71.76", "13x13": "73.24 (with the small branch)", "13x13 without the small branch": "72.53",
             "3x3 without shortcuts": "68.67", "13x13 without shortcuts": "53.98 (no small branch)",
             "7x7 on maps of 7x7 alone": "72.00", "13x13 on maps of 7x7 alone": "71.97"}
    for configuration, theirs in paper.items():
        accuracies = ours.get(configuration)
        if accuracies:
            spread = f"{min(accuracies):.2f} to {max(accuracies):.2f}"
            yield configuration.replace("x", " × "), theirs, f"{statistics.mean(accuracies):.2f}", spread, len(accuracies)


def print_guidelines(path):
    if not path.exists():
        return
    with path.open() as file:
        runs = list(csv.DictReader(file))
    print("\n## The guidelines, trained\n")
    first = runs[0]
    seconds = [float(run["seconds_of_one_core"]) for run in runs]
    print(f"Tables 2 to 4 of the paper are about MobileNetV2 on ImageNet, 100 epochs. Here: a narrow `replknet-nano` on "
          f"{int(first['images']):,} images of Fashion-MNIST, {first['epochs']} epochs, the same schedule and seeds for all, "
          f"accuracy over the 10,000 test images; `python3 python/guidelines.py`, {statistics.mean(seconds):.0f} s of one core "
          f"a run, results in [{path.name}](bench/{path.name}).\n")
    print("| kernels | paper, top-1 % | here, mean % | lowest to highest | seeds |\n| --- | --- | --- | --- | --- |")
    for line in guidelines(runs):
        print("| " + " | ".join(map(str, line)) + " |")
    print("\nThe last lines are table 4: larger kernels on the maps of 7 × 7 alone (there the last stage, here the second), 3 × 3 "
          "elsewhere and no small branch, to be read beside the first line. The paper gains 0.2 points on ImageNet by them, "
          "and 2 in the segmentation of Cityscapes.")
    print("\nA network of this size on 28 × 28 pixels says nothing about ImageNet; differences below the spread say nothing "
          "at all.")


def main():
    with open(sys.argv[1]) as file:
        run = json.load(file)
    context, networks = run["context"], by_name(run["networks"])
    lines = (table1(run["rows"]) + share(networks, run["rows"]) + scaling(networks) + against_swin(networks)
             + slak(networks, run["rows"]))
    print("# The papers' efficiency claims on a CPU\n")
    print(f"From one run of `./run bench` on {context['cpu']} ({context['isa']}), {context['threads']} thread(s), "
          f"{context['date']}, commit {context['commit']}; written by `bench/reproduction.py`. No paper gives a CPU figure; "
          "each line says what differs.\n")
    print("| claim | paper | here | command | what differs |\n| --- | --- | --- | --- | --- |")
    for claim, paper, here, command, differs in lines:
        print(f"| {claim} | {paper} | {here} | `{command}` | {differs} |")
    print("\n## What a CPU cannot show\n")
    for claim in CANNOT:
        print(f"- {claim}")
    print_guidelines(pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else GUIDELINES)


if __name__ == "__main__":
    main()
