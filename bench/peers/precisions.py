#!/usr/bin/env python3
"""Times a network here in every precision against OpenVINO as installed and at each precision, ONNX Runtime and PyTorch:
alternating processes, medians, one row a network and number of threads. Beside each time stands how far its result is from
float64, since in narrow types nobody's is right: all have the same seeded weights, and what calibrates does so on the same
images of noise.

    python bench/peers/precisions.py replknet-31b slak-t@224 --threads 1,2 --json FILE
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import networks

OURS = ("fp32", "bf16", "bf16x3", "int8")
NEEDS = {"onnxruntime": ["onnxruntime", "onnx", "torch"], "openvino-as-installed": ["openvino", "torch"],
         "openvino": ["openvino", "torch"], "openvino-bf16": ["openvino", "torch"],
         "openvino-int8": ["openvino", "nncf", "torch"], "onnxruntime-int8": ["onnxruntime", "onnx", "torch"],
         "torch-bf16": ["torch"]}
# A result this far from float64 is not the network's, whatever the precision: nothing is timed.
TOLERANCE = {"fp32": 1e-4, "bf16x3": 1e-3, "bf16": 0.1, "int8": 0.7}


def precision_of(peer):
    return "int8" if peer.endswith("int8") else "fp32" if peer in ("openvino", "onnxruntime") else "bf16"


def difference_of_ours(prepared, program, precision):
    """Of the four stages' maps, or of the last, from float64."""
    import numpy as np
    import torch
    from safetensors.numpy import load_file

    import networks_torch

    picture, features = f"{prepared.folder}/picture.png", f"{prepared.folder}/features.safetensors"
    pixels = np.random.default_rng(1).integers(0, 256, (*prepared.size, 3), dtype=np.uint8)
    networks_torch.write_png(picture, pixels)
    subprocess.run([program, "features", picture, "--model", prepared.model, "--weights", prepared.weights, "--out", features,
                    "--precision", precision, "--size", f"{prepared.size[0]}x{prepared.size[1]}"], check=True,
                   capture_output=True)
    ours = load_file(features)
    if not hasattr(prepared, "stages"):
        with torch.inference_mode():
            x = networks_torch.normalise(prepared.model, pixels).double()
            prepared.stages = [y.numpy() for y in networks_torch.in_double(prepared.module).stages(x)]
    return max(float(np.abs(ours[f"stage{i + 1}"] - y).max() / np.abs(y).max()) for i, y in enumerate(prepared.stages))


class Row:
    """Who runs, how far each is off, and why some do not."""

    def __init__(self):
        self.runners, self.versions, self.differences, self.failed = {}, {}, {}, {}

    def add(self, name, precision, make):
        """make() gives a runner and its difference."""
        try:
            runner, difference = make()
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            self.failed[name] = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
            return
        if difference is not None and not difference <= TOLERANCE[precision]:
            self.failed[name] = f"its result is off by {difference:.1e} of the largest value"
            return
        self.runners[name], self.differences[name] = runner, difference
        self.versions[name] = getattr(runner, "version", None)


def prepare_row(args, prepared, threads, workers):
    row = Row()
    for precision in OURS:
        arguments = ["model", prepared.model, "--size", f"{prepared.size[0]}x{prepared.size[1]}", "--weights", prepared.weights,
                     "--precision", precision, "--rounds", str(args.inner)]
        row.add(precision, precision, lambda: (networks.Replk(args.replk, arguments, threads),
                                               difference_of_ours(prepared, args.replk, precision)))

    def peer(name):
        worker = workers.load(name, threads, prepared.job)
        return worker, prepared.difference(worker.output(f"{prepared.folder}/output.npz"))
    for name in args.runtimes.split(","):
        row.add(name, precision_of(name), lambda: peer(name))
    return row


def time_row(args, prepared, threads, workers):
    row = prepare_row(args, prepared, threads, workers)
    rounds = {name: [] for name in row.runners}
    for _ in range(args.rounds):
        for name, runner in row.runners.items():
            rounds[name].append(networks.statistics.median(runner.round(args.inner)))
    return {"model": prepared.model, "size": f"{prepared.size[0]}x{prepared.size[1]}", "batch": 1, "threads": threads,
            "ms": {name: networks.statistics.median(t) for name, t in rounds.items()}, "rounds": rounds,
            "differences": row.differences, "versions": row.versions, "failed": row.failed}


def say(row, seconds):
    print(f"{row['model']} {row['size']}, {row['threads']} thread(s) ({seconds:.0f} s)")
    for name, ms in sorted(row["ms"].items(), key=lambda p: p[1]):
        off, version = row["differences"][name], row["versions"][name]
        print(f"  {name if version else 'here, ' + name:24} {ms:8.1f} ms  off by {off:.1e}  {version or ''}")
    for name, why in row["failed"].items():
        print(f"  {name} left out: {why}")
    sys.stdout.flush()


def context(program):
    """The machine and the commit of the figures."""
    info = json.loads(subprocess.run([program, "info", "--json"], check=True, capture_output=True, text=True).stdout)
    commit = subprocess.run(["git", "-C", networks.ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {"info": info, "commit": commit.stdout.strip(), "date": time.strftime("%Y-%m-%d")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="networks, NAME or NAME@SIZE")
    parser.add_argument("--threads", default="1", help="1 or 1,2: one row for each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inner", type=int, default=3, help="runs a round")
    parser.add_argument("--runtimes", default=",".join(NEEDS))
    parser.add_argument("--patience", type=float, default=900, help="seconds that a runtime may take to prepare a network")
    parser.add_argument("--replk", default=os.path.join(networks.ROOT, "build", "replk"), help="our program")
    parser.add_argument("--json", metavar="FILE", help="write the rows there, after each")
    args = parser.parse_args()
    networks.NEEDS.update(NEEDS)
    args.runtimes = ",".join(networks.available(args.runtimes.split(",")))
    rows, workers = [], networks.Workers(args.patience)
    try:
        for model in args.models:
            name, _, size = model.partition("@")
            with tempfile.TemporaryDirectory() as folder:
                prepared = networks.Prepared(name, networks.parse_size(size or "224"), 1, False, folder)
                for threads in [int(t) for t in args.threads.split(",")]:
                    start = time.time()
                    rows.append(time_row(args, prepared, threads, workers))
                    say(rows[-1], time.time() - start)
                    if args.json:
                        with open(args.json, "w") as file:
                            json.dump({"context": context(args.replk), "rows": rows}, file, indent=1)
    finally:
        workers.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
