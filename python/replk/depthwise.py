"""One depthwise convolution, prepared."""
import ctypes
import re

import numpy as np

from . import _arrays, _c
from .errors import InvalidArgument

_SIDE = r"\d+(?:x\d+)?"
_BRANCH = rf"{_SIDE}(?:d{_SIDE})?"
_SHAPE = re.compile(rf"n(\d+)c(\d+)h(\d+)w(\d+)k({_BRANCH}(?:,{_BRANCH})*)(.*)")


class _Problem:
    """What of a shape's text (docs/shapes.md) the arrays must agree with."""

    def __init__(self, text):
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise ValueError(text)
        self.batch, self.channels, self.height, self.width = map(int, match.groups()[:4])
        self.kernels = []
        for branch in match[5].split(","):
            sides = branch.split("d")[0].split("x")
            self.kernels.append((int(sides[0]), int(sides[-1])))
        options = match[6]
        self.channels_first = "nchw" in options
        self.storage = "bf16" if "bf16" in options else "fp16" if "fp16" in options else "fp32"
        self.bias = "nobias" not in options
        self.residual = "+residual" in options

    def tensor(self, batch, height, width):
        if self.channels_first:
            return (batch, self.channels, height, width)
        return (batch, height, width, self.channels)


class Depthwise:
    """A depthwise convolution (cross-correlation, as in PyTorch), its weights packed and its code generated.

    >>> layer = replk.Depthwise("n1c128h56w56k31+relu", weights, bias)
    >>> y = layer(x)                                       # x: float32 [1, 56, 56, 128]

    Parameters
    ----------
    shape: what is computed, in one line (docs/shapes.md): batch, channels, height and width of the input, kernel; then
        stride, padding, ``nchw``, storage type, epilogue.
    weights: float32 [channels, kernel_h, kernel_w] ([channels, 1, kernel_h, kernel_w] as PyTorch has them will do); a
        list of them where the shape has several branches. Copied.
    bias: float32 [channels], or None. Copied.
    threads: None for ``replk.default_threads()``.
    algorithm, tiling: None for the tuner's choice; else exactly this one, as ``tiling`` reads.

    Raises ``replk.InvalidArgument`` where a value is out of range, naming it and the range. Immutable: many threads may
    call one object at once; the GIL is released meanwhile.
    """

    def __init__(self, shape, weights, bias=None, *, threads=None, algorithm=None, tiling=None):
        encoded = str(shape).encode()
        try:
            problem = _Problem(str(shape))
        except ValueError:
            self._refuse(encoded)
        branches = list(weights) if isinstance(weights, (list, tuple)) else [weights]
        if len(branches) != len(problem.kernels):
            raise InvalidArgument(f"weights has {len(branches)} arrays; allowed: {len(problem.kernels)}, one a branch")
        packed = [
            _arrays.weights(w, (problem.channels, *kernel), f"weights[{i}]")
            for i, (w, kernel) in enumerate(zip(branches, problem.kernels))
        ]
        pointers = (ctypes.c_void_p * len(packed))(*(w.ctypes.data for w in packed))
        if bias is not None:
            bias = _arrays.weights(bias, (problem.channels,), "bias")
        options = _c.sized(
            _c.DepthwiseOptions,
            threads=threads or 0,
            algorithm=algorithm.encode() if algorithm else None,
            tiling=tiling.encode() if tiling else None,
        )
        self._handle = _c.Handle(_c.lib.replk_depthwise_destroy)
        _c.lib.replk_depthwise_create_from_shape(
            encoded, pointers, bias.ctypes.data if bias is not None else None, ctypes.byref(options),
            ctypes.byref(self._handle.pointer)
        )
        self._problem = problem
        height, width = ctypes.c_int32(), ctypes.c_int32()
        _c.lib.replk_depthwise_output_size(self._handle.pointer, ctypes.byref(height), ctypes.byref(width))
        self._in = problem.tensor(problem.batch, problem.height, problem.width)
        self._out = problem.tensor(problem.batch, height.value, width.value)

    @classmethod
    def zeros(cls, shape, **options):
        """One whose weights are all zero: for timing and tuning."""
        try:
            problem = _Problem(str(shape))
        except ValueError:
            cls._refuse(str(shape).encode())
        return cls(shape, [np.zeros((problem.channels, *kernel), np.float32) for kernel in problem.kernels], **options)

    @staticmethod
    def _refuse(encoded):
        """Lets the library say what is wrong with a text."""
        plan = ctypes.c_void_p()
        _c.lib.replk_depthwise_create_from_shape(encoded, None, None, None, ctypes.byref(plan))
        raise InvalidArgument(f"shape {encoded.decode()!r} is not one")

    def __call__(self, x, residual=None, out=None):
        """The convolution of ``x``, shape ``input_shape``; other layouts in memory than C order are copied first.

        ``residual``: of ``output_shape``, exactly where the shape has ``+residual``. ``out``: where the result goes, in
        C order; it may be ``residual`` and must not overlap ``x``. None: a new array.
        """
        storage = self._problem.storage
        x = _arrays.contiguous(_arrays.shaped(_arrays.stored(x, storage, "x"), self._in, "x"))
        if (residual is not None) != self._problem.residual:
            raise InvalidArgument(f"residual is {'given' if residual is not None else 'missing'}; shape: {self.shape}")
        if residual is not None:
            residual = _arrays.shaped(_arrays.stored(residual, storage, "residual"), self._out, "residual")
            residual = _arrays.contiguous(residual)
        if out is None:
            out = np.empty(self._out, x.dtype)
        else:
            out = _arrays.written(_arrays.shaped(_arrays.stored(out, storage, "out"), self._out, "out"), "out")
            if np.shares_memory(out, x):
                raise InvalidArgument("out overlaps x; allowed: memory of its own, or the residual's")
        _c.lib.replk_depthwise_run(
            self._handle.pointer, x.ctypes.data, out.ctypes.data, residual.ctypes.data if residual is not None else None,
            None, 0
        )
        return out

    @property
    def input_shape(self):
        """[batch, height, width, channels], or [batch, channels, height, width] where the shape says ``nchw``."""
        return self._in

    @property
    def output_shape(self):
        return self._out

    @property
    def shape(self):
        """The problem in its canonical spelling."""
        return _c.lib.replk_depthwise_shape(self._handle.pointer).decode()

    @property
    def tiling(self):
        """How it is computed, e.g. ``row-spectral n=28 factors=4x7 rows=7``."""
        return _c.lib.replk_depthwise_tiling(self._handle.pointer).decode()

    @property
    def source(self):
        """Where the choice came from: analytic, forced, cache, measured, near(...)."""
        return _c.lib.replk_depthwise_source(self._handle.pointer).decode()

    def __repr__(self):
        return f"<replk.Depthwise {self.shape}: {self.tiling}>"
