#!/usr/bin/env python3
"""Times replk.torch against PyTorch's own depthwise convolution, and what the op adds to the C call.

    PYTHONPATH=python REPLK_LIBRARY=build/libreplk_cpu.so build/frameworks/bin/python bench/peers/torch_op.py
    ... bench/peers/torch_op.py layers training --rounds 9 --json

overhead     microseconds that a call of the op takes beyond replk_depthwise_run_with, which a loop in C calls (cc compiles
             it), on the same tensors, by inference_mode, no_grad and with a gradient wanted
layers       conv2d over ours, one thread, NCHW and channels-last; the results are compared first
alternation  torch.mul between calls of ours over torch.mul alone, two threads: one OpenMP pool must serve both
training     a step of python/train_nano.py, one thread, batch 100, random images: its depthwise layers by torch's conv2d, by
             the batched matrix products that the script has for large kernels on small maps, and by ours

All sides of a ratio are timed in turn, round by round; each figure is the least of its rounds, and of runs that take 5 ms
together. Run it where nothing else runs.
"""
import argparse
import contextlib
import ctypes
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import replk
import torch
from replk import _c
from replk.torch import depthwise_conv2d

LAYERS = ("c128 56x56 k31", 128, 56, 31), ("c512 14x14 k27", 512, 14, 27), ("c96 56x56 k7", 96, 56, 7)
FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
MODES = {"inference_mode": torch.inference_mode, "no_grad": torch.no_grad, "grad": contextlib.nullcontext}
TOLERANCE = 1e-4  # of the largest value: fp32 sums in another order stay far below
LOOP = """
#include <replk/replk.h>
#include <time.h>
double seconds(const replk_depthwise* plan, const void* src, void* dst, int count) {
  replk_run_options options = replk_run_options_default();
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  for (int i = 0; i < count; i++) replk_depthwise_run_with(plan, src, dst, 0, &options);
  clock_gettime(CLOCK_MONOTONIC, &b);
  return (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
}
"""


def timed(call):
    """How often `call` runs in 5 ms, and a function that gives the seconds of one of so many."""
    call()
    begin = time.perf_counter()
    call()
    count = max(1, int(5e-3 / max(time.perf_counter() - begin, 1e-7)))

    def once():
        begin = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - begin) / count

    return once


def least(sides, rounds):
    """{name: seconds}, all sides in turn in every round."""
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(rounds):
        for name, once in sides.items():
            best[name] = min(best[name], once())
    return best


class Problem:
    def __init__(self, channels, side, kernel, memory_format):
        g = torch.Generator().manual_seed(1)
        x = torch.randn(1, channels, side, side, generator=g)
        self.x = x.contiguous(memory_format=FORMATS[memory_format])
        self.weight = torch.randn(channels, 1, kernel, kernel, generator=g) / kernel
        self.bias = torch.randn(channels, generator=g)
        self.padding, self.channels = kernel // 2, channels
        layout = "nchw" if memory_format == "nchw" else ""
        self.shape = f"n1c{channels}h{side}w{side}k{kernel}{layout}"

    def ours(self):
        return depthwise_conv2d(self.x, self.weight, self.bias, padding=self.padding)

    def torch(self):
        return torch.nn.functional.conv2d(self.x, self.weight, self.bias, 1, self.padding, 1, self.channels)


def c_loop(folder):
    source, library = pathlib.Path(folder, "loop.c"), pathlib.Path(folder, "loop.so")
    source.write_text(LOOP)
    include = pathlib.Path(__file__).resolve().parents[2] / "lib" / "include"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", f"-I{include}", source, "-o", library], check=True)
    loop = ctypes.CDLL(str(library)).seconds  # replk_* it finds where _c.lib is, once that is global
    loop.restype, loop.argtypes = ctypes.c_double, [ctypes.c_void_p] * 3 + [ctypes.c_int]
    return loop


def overhead(rounds):
    torch.set_num_threads(1)
    ctypes.CDLL(str(_c.library_path()), mode=ctypes.RTLD_GLOBAL)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        loop = c_loop(folder)
        # Small maps: what a call costs besides the work. Of the second, 18 KiB of weights are compared.
        for name, channels, side, kernel in ("c16 7x7 k5", 16, 7, 5), ("c96 7x7 k7", 96, 7, 7):
            p = Problem(channels, side, kernel, "channels_last")
            layer = replk.Depthwise(p.shape, p.weight.numpy(), p.bias.numpy(), threads=1)
            y = torch.empty_like(p.x)
            arguments = (layer._handle.pointer, p.x.data_ptr(), y.data_ptr())
            count = max(1, int(5e-3 / max(loop(*arguments, 3) / 3, 1e-7)))
            sides = {"c": lambda arguments=arguments, count=count: loop(*arguments, count) / count}
            for mode, context in MODES.items():
                weight = p.weight.clone().requires_grad_(mode == "grad")
                run = timed(lambda: depthwise_conv2d(p.x, weight, p.bias, padding=p.padding))

                def once(context=context, run=run):
                    with context():
                        return run()

                sides[mode] = once
            found = least(sides, rounds)
            rows.append({"layer": name, "c_us": 1e6 * found["c"],
                         **{f"{mode}_overhead_us": 1e6 * (found[mode] - found["c"]) for mode in MODES}})
    return rows


def layers(rounds):
    torch.set_num_threads(1)
    rows = []
    with torch.inference_mode():
        for name, channels, side, kernel in LAYERS:
            for memory_format in FORMATS:
                p = Problem(channels, side, kernel, memory_format)
                expected = p.torch()
                error = ((p.ours() - expected).abs().max() / expected.abs().max()).item()
                if error > TOLERANCE:
                    raise SystemExit(f"torch_op.py: {name}: ours and torch differ by {error:.2g}")
                found = least({"ours": timed(p.ours), "torch": timed(p.torch)}, rounds)
                rows.append({"layer": name, "format": memory_format, "ours_ms": 1e3 * found["ours"],
                             "torch_ms": 1e3 * found["torch"], "ratio": found["torch"] / found["ours"]})
    return rows


def alternation(rounds):
    torch.set_num_threads(2)
    p, a = Problem(96, 56, 7, "channels_last"), torch.randn(1 << 20)
    out = torch.empty_like(a)

    def mul(between):
        def once():
            seconds = 0.0
            for _ in range(50):
                between()
                begin = time.perf_counter()
                torch.mul(a, 1.5, out=out)
                seconds += time.perf_counter() - begin
            return seconds / 50

        return once

    with torch.inference_mode():
        p.ours()
        found = least({"alone": mul(lambda: None), "alternating": mul(p.ours), "beside_conv2d": mul(p.torch)}, rounds)
    maps = {line.split()[-1] for line in open("/proc/self/maps") if "gomp" in line}
    return [{"openmp_runtimes": len(maps), **{f"mul_{name}_us": 1e6 * value for name, value in found.items()},
             "ratio": found["alternating"] / found["alone"]}]


def training(rounds):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "python"))
    import train_nano

    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(1)
    images = train_nano.to_input(torch.randint(0, 256, (100, 28, 28), dtype=torch.uint8, generator=g))
    labels = torch.randint(0, 10, (100,), generator=g)

    def step_of(depthwise):
        torch.manual_seed(1)
        model = train_nano.computed_by(train_nano.Nano(), depthwise).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(model.parameters())

        def step():
            loss = torch.nn.functional.cross_entropy(model(images), labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        step()
        return step

    # Single steps in turn: what else the machine does hits all of them alike.
    steps = {name: step_of(name) for name in ("torch", "matrix", "replk")}
    seconds = {name: [] for name in steps}
    for _ in range(3 * rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return [{f"{name}_ms": 1e3 * value for name, value in median.items()}
            | {"ratio_to_torch": median["torch"] / median["replk"], "ratio_to_matrix": median["matrix"] / median["replk"]}]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"overhead": overhead, "layers": layers, "alternation": alternation, "training": training}
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)} (default: all)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for part in options.parts:
        if part not in parts:
            parser.error(f"part is {part!r}; allowed: {', '.join(parts)}")
    result = {part: parts[part](options.rounds) for part in options.parts or parts}
    if options.json:
        print(json.dumps({"torch": torch.__version__, "replk": replk.__version__, **result}))
        return
    for part, rows in result.items():
        print(part)
        for row in rows:
            print("  " + "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


if __name__ == "__main__":
    sys.exit(main())
