#!/usr/bin/env python3
"""Times a network here in every precision against OpenVINO as installed and at each precision, ONNX Runtime and PyTorch:
alternating processes, medians, one row a network and number of threads. Beside each time stands how far its logits are from
float64, since in narrow types nobody's is right: all have the same seeded weights and input, and what calibrates does so on
the same images of noise; ours in int8 is given beside both without images (what is timed) and with them.

    python bench/peers/precisions.py replknet-31b slak-t@224 --threads 1,2 --json FILE
    python bench/peers/precisions.py replknet-31b@512 --rounds 0 --seeds 1,2,3,4,5 --runtimes openvino-bf16,openvino-int8
    python bench/peers/precisions.py replknet-31b replknet-31b:k=3,3,3,3 slak-t swin-b --json docs/bench/precisions.json

The last is what docs/reproduction.md has rows of; Swin runs in the other runtimes only.
"""
import argparse
import itertools
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
TOLERANCE = {"fp32": 1e-4, "bf16x3": 1e-3, "bf16": 0.1, "int8": 0.1}


def precision_of(peer):
    return "int8" if peer.endswith("int8") else "fp32" if peer in ("openvino", "onnxruntime") else "bf16"


def run_ours(prepared, program, precision, calibrate=False):
    """Logits and the four stages' maps of the peers' input; calibrate: with the peers' images of noise."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    import runtimes

    x = np.load(f"{prepared.folder}/input.npy")
    given, out = f"{prepared.folder}/given.safetensors", f"{prepared.folder}/ours.safetensors"
    save_file({"pixels": x} | ({"calibration": np.concatenate(runtimes.noise(x))} if calibrate else {}), given)
    subprocess.run([os.path.join(os.path.dirname(program), "tests", "replk_parity"), prepared.model, prepared.weights, given,
                    out, precision], check=True, capture_output=True)
    return load_file(out)


def differences_of_ours(prepared, program, precision, calibrate=False):
    """Of the logits from float64, as the peers' are; and of the four stages' maps, the worst, from our fp32, which
    full_size.py holds to 1e-5 of float64."""
    import numpy as np

    if not hasattr(prepared, "fp32"):
        prepared.fp32 = run_ours(prepared, program, "fp32")
    ours = run_ours(prepared, program, precision, calibrate) if precision != "fp32" else prepared.fp32
    maps = max(float(np.abs(ours[name] - y).max() / np.abs(y).max()) for name, y in prepared.fp32.items() if name != "logits")
    return prepared.difference([ours["logits"]]), maps


class Row:
    """Who runs, how far each is off, and why some do not."""

    def __init__(self):
        self.runners, self.versions, self.differences, self.maps, self.failed = {}, {}, {}, {}, {}
        self.calibrated = ()

    def add(self, name, precision, make):
        """make() gives a runner, how far its logits are off, and its maps (None: not asked for)."""
        try:
            runner, difference, maps = make()
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            self.failed[name] = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
            return
        if difference is not None and not difference <= TOLERANCE[precision]:
            self.failed[name] = f"its result is off by {difference:.1e} of the largest value"
            return
        self.runners[name], self.differences[name], self.maps[name] = runner, difference, maps
        self.versions[name] = getattr(runner, "version", None)


def prepare_row(args, prepared, threads, workers):
    row = Row()
    for precision in OURS if prepared.weights else ():  # Swin runs in the other runtimes alone
        arguments = ["model", prepared.model, "--size", f"{prepared.size[0]}x{prepared.size[1]}", "--weights", prepared.weights,
                     "--precision", precision, "--rounds", str(args.inner), "--profile"]
        if precision == "int8":  # a file, which is quantised once
            subprocess.run([args.replk, "quantize", "--model", prepared.model, "--weights", prepared.weights, "--out",
                            f"{prepared.folder}/int8.safetensors"], check=True, capture_output=True)
            arguments[arguments.index("--weights") + 1] = f"{prepared.folder}/int8.safetensors"
        row.add(precision, precision, lambda: (networks.Replk(args.replk, arguments, threads),
                                               *differences_of_ours(prepared, args.replk, precision)))
    if prepared.weights:
        row.calibrated = differences_of_ours(prepared, args.replk, "int8", calibrate=True)

    def peer(name):
        worker = workers.load(name, threads, prepared.job)
        return worker, prepared.difference(worker.output(f"{prepared.folder}/output.npz")), None
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
            "seed": prepared.seed, "ms": {name: networks.statistics.median(t) for name, t in rounds.items() if t},
            "rounds": rounds,
            "large_depthwise_ms": {name: row.runners[name].last["large_depthwise_ms"] for name in OURS if rounds.get(name)},
            "differences": row.differences, "maps": row.maps,
            "calibrated": dict(zip(("logits", "maps"), row.calibrated)), "versions": row.versions, "failed": row.failed}


def say(row, seconds):
    print(f"{row['model']} {row['size']}, {row['threads']} thread(s), seed {row['seed']} ({seconds:.0f} s)")
    for name in sorted(row["differences"], key=lambda name: row["ms"].get(name, 0)):
        ms = row["ms"].get(name, float("nan"))
        off, maps, version = row["differences"][name], row["maps"][name], row["versions"][name]
        more = version or (f"maps {maps:.1e}" if maps is not None else "")
        logits = "the reference, as float64 would take too long" if off is None else f"logits off by {off:.1e}"
        print(f"  {name if version else 'here, ' + name:24} {ms:8.1f} ms  {logits}  {more}")
    if row["calibrated"]:
        print(f"  here, int8 calibrated: logits off by {row['calibrated']['logits']:.1e}, maps {row['calibrated']['maps']:.1e}")
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
    parser.add_argument("--seeds", default="1", help="of weights, input and images: one row for each")
    parser.add_argument("--rounds", type=int, default=5, help="0: nothing is timed")
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
        for model, seed in itertools.product(args.models, args.seeds.split(",")):
            name, _, size = model.partition("@")
            with tempfile.TemporaryDirectory() as folder:
                prepared = networks.Prepared(name, networks.parse_size(size or "224"), 1, False, folder, int(seed))
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
