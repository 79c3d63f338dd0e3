#!/usr/bin/env python3
"""Times a whole network, or one depthwise layer, here against ONNX Runtime, OpenVINO and PyTorch: alternating processes,
medians. Networks get the same seeded weights; the outputs of all are compared first. A layer of ours is checked against a
double reference by our program. Swin (swin-t, swin-s, swin-b, swin-l) runs in the other runtimes only.

    python bench/peers/networks.py replknet-31b swin-b --size 224 --threads 1,2
    python bench/peers/networks.py replknet-31b@384 slak-t@224 --threads 1
    python bench/peers/networks.py replknet-31b@2048x512 --features    the four stages' maps, no head
    python bench/peers/networks.py n1c128h56w56k31 --threads 1
"""
import argparse
import importlib.util
import json
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
NEEDS = {"onnxruntime": ["onnxruntime", "onnx", "torch"], "openvino": ["openvino", "onnx", "torch"],
         "torch": ["torch"], "torch-compiled": ["torch"]}
TOLERANCE = 1e-4  # of the largest value, between any two sides; bf16 inside would give 1e-2
AFFORDABLE = 1.5e13  # weights times pixels: up to here a run in float64 takes a minute, and is the reference


class Wrong(Exception):
    """Ours and theirs differ: nothing is timed."""


def available(names):
    """The runtimes that can run in this environment; says what the others miss."""
    usable = []
    for name in names:
        missing = [m for m in NEEDS[name] if importlib.util.find_spec(m) is None]
        if missing:
            print(f"{name}: left out, not installed: {', '.join(missing)} ({sys.executable} -m pip install -r "
                  "bench/peers/requirements.txt)",
                  file=sys.stderr)
        else:
            usable.append(name)
    return usable


class Worker:
    """A runtime's process, idle between rounds, used for one network after another."""

    def __init__(self, runtime, threads, patience):
        self.patience, self.errors = patience, tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "runtimes.py"), runtime, str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
                                        start_new_session=True)

    def ask(self, line, patience=None):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        if patience and not select.select([self.process.stdout], [], [], patience)[0]:
            raise RuntimeError(f"not ready within {patience:.0f} s")
        answer = self.process.stdout.readline()
        if not answer:
            self.errors.seek(0)
            raise RuntimeError((self.errors.read().strip().splitlines() or ["ended"])[-1])
        return json.loads(answer)

    def load(self, job):
        self.version = self.ask(f"load {job}", self.patience)["version"]

    def output(self, path):
        import numpy as np

        self.ask(f"output {path}")
        with np.load(path) as outputs:
            return [outputs[name] for name in outputs.files]

    def round(self, count):
        return self.ask(f"run {count}")["ms"]

    def end(self):
        """With the compilers that it may have started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Workers:
    """Those that run, by runtime and threads."""

    def __init__(self, patience):
        self.patience, self.running = patience, {}

    def load(self, runtime, threads, job):
        key = (runtime, threads)
        if key not in self.running:
            self.running[key] = Worker(runtime, threads, self.patience)
        try:
            self.running[key].load(job)
        except (RuntimeError, OSError):
            self.running.pop(key).end()
            raise
        return self.running[key]

    def end(self):
        for worker in self.running.values():
            worker.end()


class Replk:
    """Our program: a process a round."""

    def __init__(self, program, arguments, threads):
        self.command = [program, "bench", *arguments, "--threads", str(threads), "--json"]
        self.threads, self.last = threads, None

    def round(self, _):
        cpus = set(sorted(os.sched_getaffinity(0))[:self.threads])
        done = subprocess.run(self.command, check=True, capture_output=True, text=True,
                              preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        result = json.loads(done.stdout)
        self.last = result["rows"][0] if "rows" in result else result
        return [self.last["ms"]]


def is_layer(model):
    return re.match(r"n\d+c\d+h", model) is not None


class Prepared:
    """A model's files for all sides: seeded weights, an input, and what should come out."""

    def __init__(self, model, size, batch, features, folder, seed=1):
        import numpy as np
        import torch

        sys.path.insert(0, HERE)
        import networks_torch

        self.model, self.size, self.folder, self.seed = model, size, folder, seed
        torch.manual_seed(seed)
        state = None
        if is_layer(model):
            module, x = networks_torch.depthwise_layer(model)
            self.size = x.shape[2:]
        else:
            module, state = networks_torch.build(model, size, features, seed)
            x = torch.randn(batch, 3, *size).numpy()
        job = {"onnx": f"{folder}/model.onnx", "module": f"{folder}/module.pt", "input": f"{folder}/input.npy"}
        np.save(job["input"], x)
        torch.save(module, job["module"])
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # the other exporter knows fewer of these layers
        torch.onnx.export(module, torch.from_numpy(x), job["onnx"], opset_version=17, dynamo=False)
        self.job = f"{folder}/job.json"
        with open(self.job, "w") as file:
            json.dump(job, file)
        self.weights = None
        if state is not None:
            from safetensors.torch import save_file

            self.weights = f"{folder}/weights.safetensors"
            save_file({k: v.contiguous() for k, v in state.items()}, self.weights)
        self.module, self.outputs = module, None  # outputs: float64 where affordable, else the first runtime's
        work = batch * size[0] * size[1] * sum(p.numel() for p in module.parameters())
        if is_layer(model) or work <= AFFORDABLE:
            with torch.inference_mode():
                y = networks_torch.in_double(module)(torch.from_numpy(x).double())
            self.outputs = [t.numpy() for t in (y if isinstance(y, (list, tuple)) else [y])]

    def difference(self, outputs):
        """The largest difference of a runtime's outputs from what should come out, over the largest value."""
        import numpy as np

        if self.outputs is None:
            self.outputs = outputs
            return None
        return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(outputs, self.outputs, strict=True))

    def difference_of_ours(self, program):
        """The same of our program's maps, of stage 4 or of all, from PyTorch's, on one picture."""
        import numpy as np
        import torch
        from safetensors.numpy import load_file

        import networks_torch

        picture, features = f"{self.folder}/picture.png", f"{self.folder}/features.safetensors"
        pixels = np.random.default_rng(1).integers(0, 256, (*self.size, 3), dtype=np.uint8)
        networks_torch.write_png(picture, pixels)
        subprocess.run([program, "features", picture, "--model", self.model, "--weights", self.weights, "--out", features,
                        "--size", f"{self.size[0]}x{self.size[1]}"], check=True, capture_output=True)
        ours = load_file(features)
        with torch.inference_mode():
            theirs = self.module.stages(networks_torch.normalise(self.model, pixels))
        return max(float(np.abs(ours[f"stage{i + 1}"] - y.numpy()).max() / np.abs(y.numpy()).max())
                   for i, y in enumerate(theirs))


def time_threads(args, prepared, threads, difference, workers):
    """The row of one count of threads."""
    model, size = prepared.model, f"{prepared.size[0]}x{prepared.size[1]}"
    runners, versions, failed, differences = {}, {}, {}, {}
    if prepared.weights and args.replk:
        runners["replk"] = Replk(args.replk, ["model", model, "--size", size, "--batch", str(args.batch), "--weights",
                                              prepared.weights, "--rounds", str(max(3, args.inner)), "--profile",
                                              *(["--features"] if args.features else [])], threads)
    elif is_layer(model) and args.replk:
        runners["replk"] = Replk(args.replk, ["depthwise", model, "--no-peers", "--seconds", "0.3"], threads)
    for name in available(args.runtimes.split(",")):
        try:
            worker = workers.load(name, threads, prepared.job)
            differences[name] = prepared.difference(worker.output(f"{prepared.folder}/output.npz"))
            if differences[name] is not None and not differences[name] <= TOLERANCE:
                failed[name] = f"its output is off by {differences[name]:.1e} of the largest value"
                continue
            runners[name], versions[name] = worker, worker.version
        except (RuntimeError, OSError) as error:
            failed[name] = str(error)
    times = {name: [] for name in runners}
    for _ in range(args.rounds):
        for name, runner in runners.items():
            times[name].append(statistics.median(runner.round(args.inner)))
    ms = {name: statistics.median(t) for name, t in times.items()}
    peers = {name: t for name, t in ms.items() if name != "replk"}
    best = min(peers, key=peers.get) if peers else None
    row = {"model": model, "size": size, "batch": args.batch, "threads": threads, "features": args.features, "ms": ms,
           "rounds": times, "versions": versions, "failed": failed, "best_peer": best, "difference": difference,
           "differences": differences, "ratio": peers[best] / ms["replk"] if best and "replk" in ms else None}
    if "replk" in runners:
        row["replk"] = runners["replk"].last
    if prepared.weights:
        row["weights_bytes"] = os.path.getsize(prepared.weights)
    return row


def time_model(args, model, size, workers):
    """A row for each count of threads."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = Prepared(model, size, args.batch, args.features, folder)
        difference = None
        if prepared.weights and args.replk:
            difference = prepared.difference_of_ours(args.replk)
            if not difference <= TOLERANCE:
                raise Wrong(f"{model}: our output differs from PyTorch's by {difference:.1e} of the largest value, "
                            f"want at most {TOLERANCE:.0e}: not timed")
        for threads in args.threads:
            yield time_threads(args, prepared, threads, difference, workers)


def parse_size(text):
    parts = [int(p) for p in text.split("x")]
    return (parts[0], parts[-1])


def say(row, seconds):
    cells = ", ".join(f"{name} {t:.4g} ms" for name, t in sorted(row["ms"].items(), key=lambda p: p[1]))
    against = f"; best peer over ours {row['ratio']:.2f}" if row["ratio"] else ""
    print(f"{row['model']} {row['size']}{' features' if row['features'] else ''} batch {row['batch']}, {row['threads']} "
          f"thread(s): {cells}{against} ({seconds:.0f} s)", flush=True)
    ours = row.get("replk") or {}
    if "peak_memory_bytes" in ours:
        print(f"  first result {ours['first_result_ms']:.0f} ms after the program began to load; peak memory "
              f"{ours['peak_memory_bytes'] / row['weights_bytes']:.2f} times the file of weights")
    off = {name: d for name, d in row["differences"].items() if d is not None}
    if off:
        print("  off from float64: " + ", ".join(f"{name} {d:.1e}" for name, d in off.items()))
    for name, why in row["failed"].items():
        print(f"  {name} left out: {why}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="networks, NAME or NAME@SIZE, or depthwise shapes such as n1c128h56w56k31")
    parser.add_argument("--size", default="224", help="224 or 2048x512 (height x width), where the name says none")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", default=str(len(os.sched_getaffinity(0))), help="1 or 1,2: one row for each")
    parser.add_argument("--features", action="store_true", help="the four stages' maps instead of logits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inner", type=int, default=3, help="runs a round")
    parser.add_argument("--runtimes", default="onnxruntime,openvino,torch,torch-compiled")
    parser.add_argument("--patience", type=float, default=600, help="seconds that a runtime may take to prepare a network")
    parser.add_argument("--replk", default=os.path.join(ROOT, "build", "replk"), help="our program; empty: peers only")
    parser.add_argument("--json", metavar="FILE", help="write the rows there, after each")
    args = parser.parse_args()
    args.threads = [int(t) for t in args.threads.split(",")]
    rows, code, workers = [], 0, Workers(args.patience)
    try:
        for model in args.models:
            name, _, size = model.partition("@")
            start = time.time()
            try:
                for row in time_model(args, name, parse_size(size or args.size), workers):
                    rows.append(row)
                    say(row, time.time() - start)
                    start = time.time()
            except (Wrong, ValueError, subprocess.CalledProcessError) as error:
                why = (getattr(error, "stderr", None) or str(error)).strip()
                print(f"{model}: {why}", file=sys.stderr, flush=True)
                code = 1
            if args.json:
                with open(args.json, "w") as file:
                    json.dump({"rows": rows}, file, indent=1)
    finally:
        workers.end()
    return code


if __name__ == "__main__":
    sys.exit(main())
