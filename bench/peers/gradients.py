#!/usr/bin/env python3
"""Times a step of training of one depthwise layer, forward, both gradients and new weights, here against PyTorch in both of
its layouts: threads equal, the best of five on both sides. The results of all are compared first.

    PYTHONPATH=python REPLK_LIBRARY=build/libreplk_cpu.so build/frameworks/bin/python bench/peers/gradients.py
    ... bench/peers/gradients.py n1c128h56w56k31 n8c384h14w14k7 --threads 2 --json

Shapes have stride 1, "same" padding and fp32 (docs/shapes.md). Ours is called through the C API on memory that stays; each
figure is the mean of runs that take 20 ms together, since some take less than a clock should be trusted with.
"""
import argparse
import ctypes
import json
import re
import sys
import time

import numpy as np
import replk
import torch
from replk import _c

LAYERS = ["n1c128h56w56k31", "n1c256h28w28k29", "n1c512h14w14k27", "n1c1024h7w7k13", "n1c96h56w56k7", "n8c384h14w14k7",
          "n1c384h14w14k7", "n1c124h56w56k51x5,5x51,5"]
TOLERANCE = 1e-4  # of a tensor's largest value: fp32 sums in another order stay far below
PARTS = ("forward", "input_gradient", "weight_gradient", "set_weights")


class Wrong(Exception):
    """Ours and theirs differ: nothing is timed."""


class Layer:
    """A shape's tensors, [n, c, h, w] and [c, 1, kh, kw]."""

    def __init__(self, shape, seed=1):
        match = re.fullmatch(r"n(\d+)c(\d+)h(\d+)w(\d+)k([\dx,]+)", shape)
        if match is None:
            raise SystemExit(f"gradients.py: shape {shape!r}; allowed: n..c..h..w..k.. alone, such as {LAYERS[0]}")
        self.shape = shape
        n, c, h, w = (int(text) for text in match.groups()[:4])
        g = torch.Generator().manual_seed(seed)
        self.x, self.dy = torch.randn(n, c, h, w, generator=g), torch.randn(n, c, h, w, generator=g)
        self.weights = []
        for kernel in match[5].split(","):
            kh, kw = int(kernel.split("x")[0]), int(kernel.split("x")[-1])
            self.weights.append(torch.randn(c, 1, kh, kw, generator=g) / (kh * kw) ** 0.5)
        self.bias = torch.randn(c, generator=g)


class Torch:
    """Autograd of the sum of the branches' conv2d."""

    def __init__(self, layer, memory_format):
        self.x = layer.x.contiguous(memory_format=memory_format).requires_grad_()
        self.dy = layer.dy.contiguous(memory_format=memory_format)
        self.weights = [w.contiguous(memory_format=memory_format).requires_grad_() for w in layer.weights]
        self.bias = layer.bias.clone().requires_grad_()

    def convolve(self):
        y = 0
        for i, w in enumerate(self.weights):
            padding = (w.shape[2] // 2, w.shape[3] // 2)
            part = torch.nn.functional.conv2d(self.x, w, None if i else self.bias, 1, padding, 1, self.x.shape[1])
            y = part if i == 0 else y + part
        return y

    def forward(self):
        with torch.no_grad():
            return self.convolve()

    def step(self):
        y = self.convolve()
        return y, torch.autograd.grad(y, [self.x, *self.weights, self.bias], self.dy)

    def results(self):
        y, gradients = self.step()
        return [t.detach().numpy() for t in (y, *gradients)]


def channels_last(t):
    """In memory of torch's, which begins a cache line; numpy's does not."""
    return t.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).numpy()


class Ours:
    """The C API on channels-last arrays that stay where they are."""

    def __init__(self, layer, threads):
        self.x, self.dy, self.y, self.dx = (channels_last(t) for t in (layer.x, layer.dy, layer.dy, layer.x))
        self.weights, self.bias = [w[:, 0].clone().numpy() for w in layer.weights], layer.bias.numpy()
        self.dw, self.db = [w[:, 0].clone().numpy() for w in layer.weights], layer.bias.clone().numpy()
        self.forward_plan = replk.Depthwise(layer.shape, self.weights, self.bias, threads=threads)
        self.plan = _c.Handle(_c.lib.replk_depthwise_gradient_destroy)
        self.w, self.dw_pointers = (
            (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays)) for arrays in (self.weights, self.dw)
        )
        options = _c.sized(_c.GradientOptions, threads=threads, layer=self.forward_plan._handle.pointer)
        _c.lib.replk_depthwise_gradient_create_from_shape(
            layer.shape.encode(), self.w, ctypes.byref(options), ctypes.byref(self.plan.pointer)
        )

    def forward(self):
        _c.lib.replk_depthwise_run_with(self.forward_plan._handle.pointer, self.x.ctypes.data, self.y.ctypes.data, None, None)

    def input_gradient(self):
        _c.lib.replk_depthwise_gradient_input(self.plan.pointer, self.dy.ctypes.data, self.dx.ctypes.data, None)

    def weight_gradient(self):
        _c.lib.replk_depthwise_gradient_weights(
            self.plan.pointer, self.x.ctypes.data, self.dy.ctypes.data, self.dw_pointers, self.db.ctypes.data, 0, None
        )

    def set_weights(self):
        _c.lib.replk_depthwise_set_weights(self.forward_plan._handle.pointer, self.w, self.bias.ctypes.data)
        _c.lib.replk_depthwise_gradient_set_weights(self.plan.pointer, self.w)

    def step(self):
        for part in PARTS:
            getattr(self, part)()

    def results(self):
        self.step()
        return [a.transpose(0, 3, 1, 2) for a in (self.y, self.dx)] + [w[:, None] for w in self.dw] + [self.db]


def check(layer, ours, theirs):
    names = ["output", "gradient of the input"]
    names += [f"gradient of the weights ({w.shape[2]}x{w.shape[3]})" for w in layer.weights] + ["gradient of the bias"]
    worst = 0.0
    for name, mine, other in zip(names, ours.results(), theirs.results()):
        error = float(np.abs(mine - other).max() / np.abs(other).max())
        worst = max(worst, error)
        if not error <= TOLERANCE:
            raise Wrong(f"{layer.shape}: the {name} differs by {error:.1e} of its largest value; allowed: {TOLERANCE}")
    return worst


def best_of_five(run):
    """Milliseconds."""
    run()
    begin = time.perf_counter()
    run()
    repeats = max(1, int(0.02 / max(time.perf_counter() - begin, 1e-7)))
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(repeats):
            run()
        best = min(best, (time.perf_counter() - begin) / repeats)
    return 1e3 * best


def measure(shape, threads):
    layer = Layer(shape)
    ours = Ours(layer, threads)
    peers = {"nchw": Torch(layer, torch.contiguous_format), "channels-last": Torch(layer, torch.channels_last)}
    row = {"shape": shape, "threads": threads, "largest_difference": max(check(layer, ours, p) for p in peers.values())}
    row["ours_ms"] = best_of_five(ours.step)
    for part in PARTS:
        row[f"{part}_ms"] = best_of_five(getattr(ours, part))
    for name, peer in peers.items():
        row[f"torch_{name}_ms"] = best_of_five(peer.step)
        row[f"torch_{name}_forward_ms"] = best_of_five(peer.forward)
    row["torch_ms"] = min(row["torch_nchw_ms"], row["torch_channels-last_ms"])
    row["ratio"] = row["torch_ms"] / row["ours_ms"]
    return row


def show(row):
    parts = ", ".join(f"{part.replace('_', ' ')} {row[f'{part}_ms']:.3f}" for part in PARTS)
    print(f"{row['shape']}, {row['threads']} thread(s): {row['ours_ms']:.3f} ms ({parts}); torch {row['torch_nchw_ms']:.2f} "
          f"(nchw), {row['torch_channels-last_ms']:.2f} (channels-last): {row['ratio']:.1f} times as fast", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("shapes", nargs="*", default=LAYERS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one object: torch, cpu, rows")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    replk.set_tuning("now")
    rows = []
    for shape in arguments.shapes:
        try:
            rows.append(measure(shape, arguments.threads))
        except Wrong as error:
            print(f"gradients.py: {error}", file=sys.stderr)
            return 1
        if not arguments.json:
            show(rows[-1])
    if arguments.json:
        print(json.dumps({"torch": torch.__version__, "replk": replk.version(), "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
