#!/usr/bin/env python3
"""Writes docs/reproduction.md from one run of ./run bench, one of bench/peers/precisions.py and the trainings of
python/guidelines.py:

    python3 bench/reproduction.py docs/bench/run.json > docs/reproduction.md

The others are docs/bench/precisions.json and docs/bench/guidelines.csv unless --precisions and --guidelines name others.
"""
import argparse
import csv
import json
import pathlib
import re
import statistics

RECORDS = pathlib.Path(__file__).resolve().parents[1] / "docs" / "bench"

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
             f"{100 * (large['ms']['replk'] / small['ms']['replk'] - 1):+.1f} % latency ({large['ms']['replk']:.0f} against "
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


# What computes in the precision of a column, ours and theirs. "As installed" is OpenVINO's default, in which it takes bf16
# where the CPU has it: its version says so.
COLUMNS = {"fp32": ("fp32", ("onnxruntime", "openvino")),
           "bf16": ("bf16", ("openvino-as-installed", "openvino-bf16", "torch-bf16")),
           "int8": ("int8", ("openvino-int8", "onnxruntime-int8"))}


def fastest(row, names):
    """The name and ms of the one with the fastest round: on a host that others use, that is the least disturbed."""
    times = {name: min(row["rounds"][name]) for name in names if row["rounds"].get(name)
             and (name != "openvino-as-installed" or "took bf16" in row["versions"][name])}
    name = min(times, key=times.get) if times else None
    return name, times.get(name)


def over_others(rows, model):
    """Cells of a network's speed over the fastest other runtime, in each precision."""
    row = rows.get(model)
    for ours, peers in COLUMNS.values():
        (_, ms), (name, theirs) = (fastest(row, (ours,)), fastest(row, peers)) if row else ((None, None), (None, None))
        yield f"{theirs / ms:.2f} ({ms:.0f} against {theirs:.0f} ms, {name})" if ms and theirs else None


def larger_kernels(rows, large, small):
    """Cells of the latency that large kernels add."""
    for ours, _ in COLUMNS.values():
        a, b = (fastest(rows[model], (ours,))[1] if model in rows else None for model in (large, small))
        yield f"{100 * (a / b - 1):+.1f} % ({a:.0f} against {b:.0f} ms)" if a and b else None


def over_swin(rows, model, swin):
    for ours, peers in COLUMNS.values():
        ms = fastest(rows[model], (ours,))[1] if model in rows else None
        name, theirs = fastest(rows[swin], peers) if swin in rows else (None, None)
        yield f"{theirs / ms:.2f} ({ms:.0f} against {theirs:.0f} ms in {name})" if ms and theirs else None


def large_share(rows, model):
    for ours, _ in COLUMNS.values():
        row = rows.get(model, {})
        large = row.get("large_depthwise_ms", {}).get(ours)
        # Of the same run: the last round's.
        yield f"{100 * large / row['rounds'][ours][-1]:.1f} % ({large:.1f} ms)" if large else None


def at_224(rows):
    return {row["model"]: row for row in rows if (row["size"], row["threads"]) == ("224x224", 1) and any(row["rounds"].values())}


def in_fp32(network):
    """A network of ./run bench as a row of precisions.py, with the medians that the other rows of the page have."""
    rounds = {"fp32" if name == "replk" else name: [ms] for name, ms in network["ms"].items()}
    return network | {"rounds": rounds, "large_depthwise_ms": {"fp32": (network.get("replk") or {}).get("large_depthwise_ms")}}


def print_deployed(path, networks):
    """The papers' rows in the types that people deploy, each side in the same; networks: of ./run bench."""
    if not path.exists():
        return
    record = json.loads(path.read_text())
    large, small, swin = "replknet-31b", "replknet-31b:k=3,3,3,3", "swin-b"

    def cells(of, *models):
        """Both figures of a ratio are of one record: this one, or, in fp32, the other where this one lacks a network."""
        for here, other in zip(of(at_224(record["rows"]), *models), of(at_224(map(in_fp32, networks)), *models)):
            yield here or other or "not in the record"

    lines = [
        ("RepLKNet-31B at 224, whole network: speed over the fastest other runtime", "none published on a CPU",
         cells(over_others, large)),
        ("SLaK-T at 224: the same", "none published on a CPU", cells(over_others, "slak-t")),
        ("Section 3: large depthwise layers' share of RepLKNet-31B's time", "49.5 % → 12.3 % (fp32)", cells(large_share, large)),
        ("Table 5: kernels 31-29-27-13 against 3-3-3-3, whole network", "+18.6 % FLOPs; no latency given",
         cells(larger_kernels, large, small)),
        ("Table 6: RepLKNet-31B's speed over Swin-B's", "1.31 (fp32)", cells(over_swin, large, swin)),
    ]
    context, rounds = record["context"], max(len(times) for row in record["rows"] for times in row["rounds"].values())
    print("\n## As deployed\n")
    print("The papers give fp32. On a CPU with narrow products few people run that, and then the rest of a network is faster and its "
          "depthwise layers weigh more; so here are the claims about whole networks with both sides in one type: bf16 against "
          "bf16, int8 against int8 (OpenVINO's by NNCF, calibrated, as ours may be; how far each is off is said in "
          "[precision.md](precision.md)).\n")
    print(f"From [one record](bench/{path.name}) of {context['info']['cpu']['brand']} ({context['info']['isa']}), 1 thread, "
          f"{context['date']}, commit {context['commit']}: the fastest of {rounds} alternating rounds of each side, on a host that "
          "others use. What it lacks in fp32 is from the run above. It is made by "
          f"`python bench/peers/precisions.py {large} {small} slak-t {swin} --json docs/bench/precisions.json`.\n")
    print("| claim | paper | fp32 | bf16 | int8 |\n| --- | --- | --- | --- | --- |")
    for claim, paper, shown in lines:
        print(f"| {claim} | {paper} | {' | '.join(shown)} |")


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="a record of ./run bench")
    parser.add_argument("--precisions", type=pathlib.Path, default=RECORDS / "precisions.json")
    parser.add_argument("--guidelines", type=pathlib.Path, default=RECORDS / "guidelines.csv")
    args = parser.parse_args()
    run = json.loads(args.run.read_text())
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
    print_deployed(args.precisions, run["networks"])
    print("\n## What a CPU cannot show\n")
    for claim in CANNOT:
        print(f"- {claim}")
    print_guidelines(args.guidelines)


if __name__ == "__main__":
    main()
