"""One depthwise convolution, prepared."""
from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from . import _arrays, _c
from .errors import InvalidArgument

_SIDE = r"\d+(?:x\d+)?"
_BRANCH = rf"{_SIDE}(?:d{_SIDE})?"
_SHAPE = re.compile(rf"n(\d+)c(\d+)(?:x(\d+))?h(\d+)w(\d+)k({_BRANCH}(?:,{_BRANCH})*)(.*)")
_STRIDES = re.compile(r"[io]\d+x\d+x\d+")


class _Problem:
    """What of a shape's text (docs/shapes.md) the arrays must agree with."""

    def __init__(self, text, match):
        self.batch, self.channels, multiplier, *self.sides = (int(text or 1) for text in match.groups()[:5])
        self.outputs = self.channels * multiplier
        self.kernels = []
        for branch in match[6].split(","):
            sides = branch.split("d")[0].split("x")
            self.kernels.append((int(sides[0]), int(sides[-1])))
        options = match[7]
        if _STRIDES.search(options):
            raise InvalidArgument(f"shape {text!r} has strides; allowed here: none, an array has its own")
        before, _, behind = options.rpartition(">")
        self.channels_first = "nchw" in (before or options)
        self.result_channels_first = "nchw" in options if not before else "nchw" in behind
        self.storage = "bf16" if "bf16" in options else "fp16" if "fp16" in options else "fp32"
        self.residual = "+residual" in options
        self.plain = "+" not in options

    def input(self, batch):
        height, width = self.sides
        return (batch, self.channels, height, width) if self.channels_first else (batch, height, width, self.channels)

    def result(self, batch, height, width):
        return (batch, self.outputs, height, width) if self.result_channels_first else (batch, height, width, self.outputs)


def _problem(shape):
    """Read from a text; where it is no shape, the library says what is wrong with it."""
    match = _SHAPE.fullmatch(str(shape))
    if match is None:
        _c.lib.replk_depthwise_create_from_shape(str(shape).encode(), None, None, None, ctypes.byref(ctypes.c_void_p()))
        raise InvalidArgument(f"shape {shape!r} is not one")
    return _Problem(str(shape), match)


class _Packed:
    """Weights and bias as the C API takes them; the arrays live as long."""

    def __init__(self, problem, weights, bias):
        branches = list(weights) if isinstance(weights, (list, tuple)) else [weights]
        if len(branches) != len(problem.kernels):
            raise InvalidArgument(f"weights has {len(branches)} arrays; allowed: {len(problem.kernels)}, one a branch")
        self.arrays = [
            _arrays.weights(w, (problem.outputs, *kernel), f"weights[{i}]")
            for i, (w, kernel) in enumerate(zip(branches, problem.kernels))
        ]
        self.weights = (ctypes.c_void_p * len(branches))(*(w.ctypes.data for w in self.arrays))
        self._bias = None if bias is None else _arrays.weights(bias, (problem.outputs,), "bias")
        self.bias = None if bias is None else self._bias.ctypes.data


class _Gradients:
    """The plans of a layer's gradients, each made when it is first asked for."""

    def __init__(self, problem, shape, packed, threads, layer):
        self._shape, self._threads, self._layer = shape.encode(), threads, layer
        self._lock, self._input, self._weights = threading.Lock(), None, None
        self._plain = problem.plain
        self._keep(packed)

    def _keep(self, packed):
        # The gradient of the input may need them later; a shape with an epilogue has none.
        self._arrays = [w.copy() if self._plain else w[:0] for w in packed.arrays]
        self._pointers = (ctypes.c_void_p * len(self._arrays))(*(w.ctypes.data for w in self._arrays))

    def _create(self, wanted):
        handle = _c.Handle(_c.lib.replk_depthwise_gradient_destroy)
        options = _c.sized(_c.GradientOptions, threads=self._threads, wanted=wanted, layer=self._layer.pointer)
        _c.lib.replk_depthwise_gradient_create_from_shape(
            self._shape, self._pointers, ctypes.byref(options), ctypes.byref(handle.pointer)
        )
        return handle

    def of_input(self):
        with self._lock:
            if self._input is None:
                self._input = self._create(_c.GRADIENT_INPUT)
        return self._input.pointer

    def of_weights(self):
        with self._lock:
            if self._weights is None:
                self._weights = self._create(_c.GRADIENT_WEIGHTS)
        return self._weights.pointer

    def set_weights(self, packed):
        self._keep(packed)
        if self._input is not None:
            _c.lib.replk_depthwise_gradient_set_weights(self._input.pointer, self._pointers)


class Depthwise:
    """A depthwise convolution (cross-correlation, as in PyTorch), its weights packed and its code generated.

    >>> layer = replk.Depthwise("n1c128h56w56k31+relu", weights, bias)
    >>> y = layer(x)                                       # x: float32 [1, 56, 56, 128]

    Parameters
    ----------
    shape: what is computed, in one line (docs/shapes.md): batch, channels, height and width of the input, kernel; then
        stride, padding, ``nchw``, type of the arrays, epilogue.
    weights: float32 [channels, kernel_h, kernel_w], or as PyTorch has them [channels, 1, kernel_h, kernel_w]; a list of
        such arrays if the shape has several branches. Copied.
    bias: float32 [channels], or None. Copied.
    threads: None for ``replk.default_threads()``.
    algorithm, tiling: None for the tuner's choice; else the best tiling of this algorithm, or exactly this tiling, as the
        attribute ``tiling`` spells it.

    Raises ``replk.InvalidArgument`` if a value is out of range, naming it and the range. Many threads may call one object
    at once, except while ``set_weights`` runs; a call releases the GIL.
    """

    def __init__(
        self, shape: str, weights: ArrayLike | Sequence[ArrayLike], bias: ArrayLike | None = None, *,
        threads: int | None = None, algorithm: str | None = None, tiling: str | None = None,
    ) -> None:
        problem = _problem(shape)
        packed = _Packed(problem, weights, bias)
        options = _c.sized(
            _c.DepthwiseOptions,
            threads=threads or 0,
            algorithm=algorithm.encode() if algorithm else None,
            tiling=tiling.encode() if tiling else None,
        )
        self._handle = _c.Handle(_c.lib.replk_depthwise_destroy)
        _c.lib.replk_depthwise_create_from_shape(
            str(shape).encode(), packed.weights, packed.bias, ctypes.byref(options), ctypes.byref(self._handle.pointer)
        )
        self._problem = problem
        height, width = ctypes.c_int32(), ctypes.c_int32()
        _c.lib.replk_depthwise_output_size(self._handle.pointer, ctypes.byref(height), ctypes.byref(width))
        self._out_sides = height.value, width.value
        self._gradients = _Gradients(problem, self.shape, packed, threads or 0, self._handle)

    @classmethod
    def zeros(cls, shape: str, **options) -> Depthwise:
        """A layer whose weights are all zero: for timing and tuning."""
        problem = _problem(shape)
        return cls(shape, [np.zeros((problem.outputs, *kernel), np.float32) for kernel in problem.kernels], **options)

    def set_weights(self, weights: ArrayLike | Sequence[ArrayLike], bias: ArrayLike | None = None) -> None:
        """Gives the layer other weights and bias, as at its creation; the tiling stays. No call may run meanwhile."""
        packed = _Packed(self._problem, weights, bias)
        _c.lib.replk_depthwise_set_weights(self._handle.pointer, packed.weights, packed.bias)
        self._gradients.set_weights(packed)

    def __call__(self, x: ArrayLike, residual: ArrayLike | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """The convolution of ``x``, which has ``input_shape`` with any batch of at least 1 and is copied if not in C order.

        ``residual``: an array of ``output_shape``, if and only if the shape has ``+residual``. ``out``: an array in C order
        for the result; it may be ``residual`` and must not overlap ``x``. None: a new array.
        """
        storage = self._problem.storage
        x, batch = self._input(x)
        shape = self._problem.result(batch, *self._out_sides)
        if (residual is not None) != self._problem.residual:
            raise InvalidArgument(f"residual is {'given' if residual is not None else 'missing'}; shape: {self.shape}")
        if residual is not None:
            residual = _arrays.shaped(_arrays.stored(residual, storage, "residual"), shape, "residual")
            residual = np.ascontiguousarray(residual)
        if out is None:
            out = np.empty(shape, x.dtype)
        else:
            out = _arrays.written(_arrays.shaped(_arrays.stored(out, storage, "out"), shape, "out"), "out")
            if np.shares_memory(out, x):
                raise InvalidArgument("out overlaps x; allowed: memory of its own, or the residual's")
        options = _c.sized(_c.RunOptions, batch=batch)
        _c.lib.replk_depthwise_run_with(
            self._handle.pointer, x.ctypes.data, out.ctypes.data, residual.ctypes.data if residual is not None else None,
            ctypes.byref(options)
        )
        return out

    def input_gradient(self, dy: ArrayLike) -> np.ndarray:
        """The gradient of the input, like ``x``, from that of the result, ``dy``: ``output_shape`` with any batch.

        A shape with an activation, scale or residual is an error. The first call makes the plan.
        """
        dy, batch = self._result(dy)
        dx = np.empty(self._problem.input(batch), dy.dtype)
        options = _c.sized(_c.RunOptions, batch=batch)
        _c.lib.replk_depthwise_gradient_input(
            self._gradients.of_input(), dy.ctypes.data, dx.ctypes.data, ctypes.byref(options)
        )
        return dx

    def weight_gradient(self, x: ArrayLike, dy: ArrayLike) -> tuple[np.ndarray | list[np.ndarray], np.ndarray]:
        """The gradients of weights and bias from a call's ``x`` and that of its result, ``dy``, summed over the batch.

        Returns (dweights, dbias): float32 [channels, kernel_h, kernel_w], a list of them where the shape has several
        branches; float32 [channels]. As ``input_gradient``.
        """
        x, batch = self._input(x)
        dy, given = self._result(dy)
        if given != batch:
            raise InvalidArgument(f"dy is of {given} images; allowed: {batch}, as many as x has")
        outputs = self._problem.outputs
        dweights = [np.empty((outputs, *kernel), np.float32) for kernel in self._problem.kernels]
        dbias = np.empty(outputs, np.float32)
        pointers = (ctypes.c_void_p * len(dweights))(*(w.ctypes.data for w in dweights))
        options = _c.sized(_c.RunOptions, batch=batch)
        _c.lib.replk_depthwise_gradient_weights(
            self._gradients.of_weights(), x.ctypes.data, dy.ctypes.data, pointers, dbias.ctypes.data, 0,
            ctypes.byref(options)
        )
        return (dweights if len(dweights) > 1 else dweights[0]), dbias

    def _input(self, x):
        """``x`` in C order, and how many images it has."""
        x = _arrays.stored(x, self._problem.storage, "x")
        batch = x.shape[0] if x.ndim == 4 and x.shape[0] > 0 else self._problem.batch
        return np.ascontiguousarray(_arrays.shaped(x, self._problem.input(batch), "x")), batch

    def _result(self, dy):
        dy = _arrays.stored(dy, self._problem.storage, "dy")
        batch = dy.shape[0] if dy.ndim == 4 and dy.shape[0] > 0 else self._problem.batch
        return np.ascontiguousarray(_arrays.shaped(dy, self._problem.result(batch, *self._out_sides), "dy")), batch

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[batch, height, width, channels], or [batch, channels, height, width] where the shape says ``nchw``."""
        return self._problem.input(self._problem.batch)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of a call's result, as ``input_shape``."""
        return self._problem.result(self._problem.batch, *self._out_sides)

    @property
    def shape(self) -> str:
        """The problem in its canonical spelling."""
        return _c.lib.replk_depthwise_shape(self._handle.pointer).decode()

    @property
    def tiling(self) -> str:
        """How it is computed, e.g. ``row-spectral n=28 factors=4x7 rows=7``."""
        return _c.lib.replk_depthwise_tiling(self._handle.pointer).decode()

    @property
    def source(self) -> str:
        """Where the choice came from: analytic, forced, cache, measured, near(...)."""
        return _c.lib.replk_depthwise_source(self._handle.pointer).decode()

    def __repr__(self):
        return f"<replk.Depthwise {self.shape}: {self.tiling}>"
