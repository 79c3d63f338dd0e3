#!/usr/bin/env python3
"""Times a whole network, or one depthwise layer, here against ONNX Runtime, OpenVINO and PyTorch: alternating processes,
medians. Networks get the same seeded weights and their outputs are compared first; a layer is checked against a double
reference by our program. Swin (swin-t, swin-s, swin-b, swin-l) runs in the other runtimes only.

    python bench/peers/networks.py replknet-31b swin-b --size 224 --threads 1
    python bench/peers/networks.py n1c128h56w56k31 --threads 1
"""
import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
NEEDS = {"onnxruntime": ["onnxruntime", "onnx", "torch"], "openvino": ["openvino", "onnx", "torch"],
         "torch": ["torch"], "torch-compiled": ["torch"]}


def available(names):
    """The runtimes that can run in this environment; says what the others miss."""
    usable = []
    for name in names:
        missing = [m for m in NEEDS[name] if importlib.util.find_spec(m) is None]
        if missing:
            print(f"{name}: left out, not installed: {', '.join(missing)} (pip install -r bench/peers/requirements.txt)",
                  file=sys.stderr)
        else:
            usable.append(name)
    return usable


class Worker:
    """A runtime's process, idle between rounds."""

    def __init__(self, runtime, job):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "runtimes.py"), runtime, job],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.version = self.answer()["version"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read().strip().splitlines()[-1:])
        return json.loads(line)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def round(self, count):
        return self.ask(f"run {count}")["ms"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Replk:
    """Our program: a process a round."""

    def __init__(self, program, arguments, threads):
        self.command = [program, "bench", *arguments, "--threads", str(threads), "--json"]
        self.threads, self.last = threads, None

    def round(self, count):
        cpus = set(sorted(os.sched_getaffinity(0))[:self.threads])
        done = subprocess.run(self.command, check=True, capture_output=True, text=True,
                              preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        result = json.loads(done.stdout)
        self.last = result["rows"][0] if "rows" in result else result
        return [self.last["ms"]]

    def close(self):
        pass


def is_layer(model):
    return re.match(r"n\d+c\d+h", model) is not None


def prepare(model, size, batch, folder):
    """Seeded weights for both sides: files for the runtimes' job, weights for ours (None where we have no such network)."""
    import numpy as np
    import torch

    sys.path.insert(0, HERE)
    import networks_torch

    torch.manual_seed(1)
    if is_layer(model):
        module, x = networks_torch.depthwise_layer(model)
        state = None
    else:
        module, state = networks_torch.build(model, size)
        x = torch.randn(batch, 3, *size).numpy()
    np.save(f"{folder}/input.npy", x)
    torch.save(module, f"{folder}/module.pt")
    torch.onnx.export(module, torch.from_numpy(x), f"{folder}/model.onnx", opset_version=17, dynamo=False)
    weights = None
    if state is not None:
        from safetensors.torch import save_file

        weights = f"{folder}/weights.safetensors"
        save_file({k: v.contiguous() for k, v in state.items()}, weights)
    return {"onnx": f"{folder}/model.onnx", "module": f"{folder}/module.pt", "input": f"{folder}/input.npy"}, weights


def compare_with_ours(args, model, size, weights, folder, module_file):
    """Largest difference of stage 4's map between our program and PyTorch, over its largest value, on one PNG."""
    import numpy as np
    import torch
    from safetensors.numpy import load_file

    import networks_torch

    picture = f"{folder}/picture.png"
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    networks_torch.write_png(picture, pixels)
    features = f"{folder}/features.safetensors"
    subprocess.run([args.replk, "features", picture, "--model", model, "--weights", weights, "--out", features, "--size",
                    f"{size[0]}x{size[1]}"], check=True, capture_output=True)
    ours = load_file(features)["stage4"]
    with torch.inference_mode():
        module = torch.load(module_file, weights_only=False).eval()
        theirs = module.stage4(networks_torch.normalise(model, pixels)).numpy()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def time_model(args, model, size):
    with tempfile.TemporaryDirectory() as folder:
        job, weights = prepare(model, size, args.batch, folder)
        job["threads"] = args.threads
        with open(f"{folder}/job.json", "w") as file:
            json.dump(job, file)
        runners, versions, failed = {}, {}, {}
        difference = None
        if weights and args.replk:
            difference = compare_with_ours(args, model, size, weights, folder, job["module"])
            if not difference <= 1e-4:
                raise SystemExit(f"{model}: our output differs from PyTorch's by {difference:.1e} of the largest value, "
                                 "want at most 1e-4: not timed")
            runners["replk"] = Replk(args.replk, ["model", model, "--size", f"{size[0]}x{size[1]}", "--batch",
                                                  str(args.batch), "--weights", weights, "--profile"], args.threads)
        elif is_layer(model) and args.replk:
            runners["replk"] = Replk(args.replk, ["depthwise", model, "--no-peers"], args.threads)
        for name in available(args.runtimes.split(",")):
            try:
                runners[name] = Worker(name, f"{folder}/job.json")
                versions[name] = runners[name].version
            except RuntimeError as error:
                failed[name] = str(error)
        times = {name: [] for name in runners}
        for _ in range(args.rounds):
            for name, runner in runners.items():
                times[name].append(statistics.median(runner.round(args.inner)))
        for runner in runners.values():
            runner.close()
    ms = {name: statistics.median(t) for name, t in times.items()}
    peers = {name: t for name, t in ms.items() if name != "replk"}
    best = min(peers, key=peers.get) if peers else None
    row = {"model": model, "size": f"{size[0]}x{size[1]}", "batch": args.batch, "threads": args.threads, "ms": ms,
           "rounds": times, "versions": versions, "failed": failed, "best_peer": best,
           "difference": difference, "ratio": peers[best] / ms["replk"] if best and "replk" in ms else None}
    if "replk" in runners:
        row["replk"] = runners["replk"].last
    return row


def parse_size(text):
    parts = [int(p) for p in text.split("x")]
    return (parts[0], parts[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="networks, or depthwise shapes such as n1c128h56w56k31")
    parser.add_argument("--size", type=parse_size, default=(224, 224), help="224 or 2048x512 (height x width)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inner", type=int, default=3, help="runs a round of the other runtimes")
    parser.add_argument("--runtimes", default="onnxruntime,openvino,torch,torch-compiled")
    parser.add_argument("--replk", default=os.path.join(ROOT, "build", "replk"), help="our program; empty: peers only")
    parser.add_argument("--json", metavar="FILE", help="write the rows there")
    args = parser.parse_args()
    rows = []
    for model in args.models:
        row = time_model(args, model, args.size)
        rows.append(row)
        cells = ", ".join(f"{name} {t:.1f} ms" for name, t in sorted(row["ms"].items(), key=lambda p: p[1]))
        against = f"; best peer over ours {row['ratio']:.2f}" if row["ratio"] else ""
        print(f"{model} {row['size']} batch {args.batch}, {args.threads} thread(s): {cells}{against}", flush=True)
        for name, why in row["failed"].items():
            print(f"  {name} failed: {why}", file=sys.stderr)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"rows": rows}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
