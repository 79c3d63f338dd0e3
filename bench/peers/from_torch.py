#!/usr/bin/env python3
"""RepLKNet-31B in PyTorch, in its default layout, beside replk.Model.from_torch of it, in turn on one thread.

    REPLK_LIBRARY=build/libreplk_cpu.so.0 PYTHONPATH=python python3 bench/peers/from_torch.py [--size N] [--rounds N]

The network is tests/parity/definitions.py's, which has the authors' layers. Medians of the rounds, and of their quotients;
what replk is given lies as PyTorch's input does, and is turned to channels-last within the time. JSON.
"""
import argparse
import json
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "parity"))

import numpy as np  # noqa: E402
import torch  # noqa: E402

import definitions  # noqa: E402
import replk  # noqa: E402


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = definitions.randomise(
        definitions.RepLKNet((2, 2, 18, 2), (128, 256, 512, 1024), (31, 29, 27, 13), 5), 1)
    pixels = torch.randn(1, 3, options.size, options.size, generator=torch.Generator().manual_seed(1))
    loading = time.perf_counter()
    model = replk.Model.from_torch(network, threads=1, verify=False)
    loading = time.perf_counter() - loading

    def theirs():
        with torch.inference_mode():
            return network(pixels)[0].numpy()

    def ours():
        return model.logits(np.ascontiguousarray(pixels.numpy().transpose(0, 2, 3, 1)))

    expected, found = theirs(), ours()  # both warm
    rounds = [(seconds(theirs), seconds(ours)) for _ in range(options.rounds)]
    print(json.dumps({
        "size": options.size, "torch": torch.__version__, "load_ms": 1e3 * loading,
        "torch_ms": 1e3 * statistics.median(one for one, _ in rounds),
        "replk_ms": 1e3 * statistics.median(one for _, one in rounds),
        "ratio": statistics.median(one / other for one, other in rounds),
        "difference": float(np.abs(found - expected).max() / np.abs(expected).max()),
        "rounds_ms": [[1e3 * one, 1e3 * other] for one, other in rounds]}))


if __name__ == "__main__":
    main()
