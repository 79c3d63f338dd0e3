"""Times layers of a network as they are and as replk computes them, on inputs as they get them there."""
import contextlib
import time

import torch
from torch import nn

from .module import DepthwiseConv2d

_ROUNDS, _SECONDS = 3, 2e-3


@contextlib.contextmanager
def evaluating(module):
    """Eval mode, so that a run changes no statistics; every module has its own mode back afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


def _inputs(module, layers, example):
    """{layer: its inputs as (sizes, strides, type)}: those of one run of the network."""
    seen = {m: [] for m in layers}

    def note(m, arguments, named):
        x = arguments[0] if arguments else named["input"]
        what = (tuple(x.shape), x.stride(), x.dtype)
        if x.dim() == 4 and what not in seen[m]:
            seen[m].append(what)

    handles = [m.register_forward_pre_hook(note, with_kwargs=True) for m in layers]
    try:
        with evaluating(module), torch.no_grad():
            module(*example if isinstance(example, tuple) else (example,))
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _seconds(run):
    """Of one run, the best of a few rounds."""
    begin = time.perf_counter()
    run()
    repeats = max(1, int(_SECONDS / max(time.perf_counter() - begin, 1e-7)))
    best = float("inf")
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        for _ in range(repeats):
            run()
        best = min(best, (time.perf_counter() - begin) / repeats)
    return best


def _of_one(m, sizes, strides, dtype):
    """Seconds (before, here) on one input: of the class's own forward, so that hooks are not run."""
    x = torch.empty_strided(sizes, strides, dtype=dtype).copy_(torch.randn(sizes))
    with torch.no_grad():
        runs = [lambda: nn.Conv2d.forward(m, x), lambda: DepthwiseConv2d.forward(m, x)]
        for run in runs:
            run()  # plans are made
        return [_seconds(run) for run in runs]


def compare(module, layers, example):
    """{layer: (whether replk is the faster, why)}. Layers of one shape are timed once."""
    results, known = {}, {}
    for m, inputs in _inputs(module, layers, example).items():
        before = here = 0.0
        for sizes, strides, dtype in inputs:
            shape = (m.kernel_size, m.stride, m.padding, m.dilation, m.bias is None, m.weight.dtype, sizes, strides, dtype)
            if shape not in known:
                known[shape] = _of_one(m, sizes, strides, dtype)
            before, here = before + known[shape][0], here + known[shape][1]
        results[m] = (
            (here < before, f"{1e3 * here:.3g} ms, {1e3 * before:.3g} before")
            if inputs
            else (True, "not run by the example, so not timed")
        )
    return results
