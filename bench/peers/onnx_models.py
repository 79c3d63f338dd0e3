#!/usr/bin/env python3
"""What replk.onnx's rewriting does to whole networks in ONNX Runtime and OpenVINO: time before over time after.

    python bench/peers/onnx_models.py prepare DIR NETWORK[@SIZE]...     # needs torch; timm for names that are not ours
    python bench/peers/onnx_models.py measure DIR [--runtime R] [--runs N] [--threads N] NETWORK[@SIZE]...

prepare exports each network in the form it was trained in, with random weights, rewrites it and checks it. measure runs the two by
turns in one process, at least 5 times each, and prints medians; a line of JSON for each. REPLK_LIBRARY and
REPLK_ONNXRUNTIME_LIBRARY name a build tree's libraries (docs/onnx.md).
"""
import argparse
import json
import os
import statistics
import time
from pathlib import Path

RUNTIMES = ("onnxruntime", "openvino-compiled", "openvino-python")


def parts(network):
    name, _, size = network.partition("@")
    return name, int(size or 224)


def build(name):
    """A network of ours in train form, or one of timm's."""
    import torch
    from networks_torch import definitions, train_form

    try:
        module = train_form(name)
    except ValueError:
        import timm

        return definitions.randomise(timm.create_model(name), 1).eval()

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = definitions.randomise(module, 1)

        def forward(self, x):
            return self.network(x)[0]

    return Logits().eval()


def prepare(directory, networks, exporter):
    import torch

    import replk.onnx

    for network in networks:
        name, size = parts(network)
        before, after = directory / f"{network}.onnx", directory / f"{network}-replk.onnx"
        if not before.exists():
            with torch.no_grad():
                torch.onnx.export(
                    build(name), (torch.randn(1, 3, size, size),), str(before), dynamo=exporter == "dynamo",
                    input_names=["x"], output_names=["y"], **({"external_data": False} if exporter == "dynamo" else {}),
                )  # fmt: skip
        print(f"{network}: {replk.onnx.rewrite(before, after)}")


def onnxruntime_runner(path, threads):
    import onnxruntime as ort

    import replk.onnx

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.register_custom_ops_library(replk.onnx.library_path())
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0], f"onnxruntime {ort.__version__}"


def openvino_runner(path, threads, compiled):
    import openvino as ov

    import replk.openvino

    core = ov.Core()
    way = replk.openvino.add_extension(core, compiled)
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def run(x):
        request.infer([ov.Tensor(x, shared_memory=True)])
        return request.get_output_tensor(0).data
    return run, f"openvino {ov.__version__.split('-')[0]} f32, op {way.split(':')[0]}"


def runner(path, runtime, threads):
    if runtime == "onnxruntime":
        return onnxruntime_runner(path, threads)
    return openvino_runner(path, threads, runtime == "openvino-compiled")


def measure(directory, networks, runtime, runs, threads):
    import numpy as np

    for network in networks:
        _, size = parts(network)
        x = np.random.default_rng(0).standard_normal((1, 3, size, size), np.float32)
        both = [runner(directory / f"{network}{what}.onnx", runtime, threads) for what in ("", "-replk")]
        results = [np.array(run(x)) for run, _ in both]  # the first run, which makes plans, and the check
        times = [[], []]
        for _ in range(max(runs, 5)):
            for (run, _), list_ in zip(both, times):
                start = time.perf_counter()
                run(x)
                list_.append(1e3 * (time.perf_counter() - start))
        before, after = map(statistics.median, times)
        row = {
            "network": network, "runtime": both[0][1], "threads": threads, "before_ms": round(before, 2), "after_ms": round(after, 2),
            "ratio": round(before / after, 3), "ratio_of_fastest": round(min(times[0]) / min(times[1]), 3),
            "difference": float(np.abs(results[0] - results[1]).max() / np.abs(results[0]).max()),
        }  # fmt: skip
        print(json.dumps(row), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("prepare", "measure"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("networks", nargs="+", metavar="NETWORK[@SIZE]")
    parser.add_argument("--exporter", choices=("dynamo", "torchscript"), default="dynamo")
    parser.add_argument("--runtime", choices=RUNTIMES, default="onnxruntime")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    if a.what == "prepare":
        return prepare(a.directory, a.networks, a.exporter)
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: a.threads]))
    measure(a.directory, a.networks, a.runtime, a.runs, a.threads)


if __name__ == "__main__":
    main()
