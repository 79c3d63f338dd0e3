"""The ops of integrations/torch in Python, over the C API: where their library cannot be loaded (torch before 2.9).

Same schemas, same rules; a call costs some ten microseconds more.
"""
import ctypes
import threading
from collections import OrderedDict

import torch

from .. import _c
from ._layer import unpack

_SCHEMAS = (
    "depthwise(Tensor x, Tensor weight, Tensor? bias, int layer, int version) -> Tensor",
    "depthwise_input_gradient(Tensor dy, Tensor weight, int height, int width, bool channels_last, int layer, int version) "
    "-> Tensor",
    "depthwise_weight_gradient(Tensor x, Tensor dy, int kernel_h, int kernel_w, bool bias, int layer) -> (Tensor, Tensor)",
)
_TYPES = {torch.float32: "", torch.bfloat16: "bf16", torch.float16: "fp16"}
_ACTIVATIONS = "", "+relu", "+gelu", "+silu", "+hardswish"
_WHOLE, _SAMPLES = 32 << 10, 64  # bytes of weights that are compared, and words of larger ones: as plans.cpp


def _check(condition, message):
    if not condition:
        raise RuntimeError(f"replk: {message}")


class _Plans:
    """The plans used last, behind a lock: plans.hpp in Python."""

    capacity = 256

    def __init__(self):
        self._lock, self._entries = threading.Lock(), OrderedDict()

    def run(self, key, values, make, change, use):
        """``use`` of a plan of this key with these values: the one that is there, that one changed, or a new one."""
        with self._lock:
            entry = self._entries.pop(key, None)
            stale = entry is not None and entry[1] != values
            if stale and entry[2]:  # in use with its old weights
                entry = None
            if entry is not None and not stale:
                self._keep(key, entry)
        if entry is None or stale:
            if entry is None:
                entry = [make(), values, 0]
            else:
                change(entry[0].pointer)
                entry[1] = values
            with self._lock:
                self._keep(key, entry)
        try:
            return use(entry[0].pointer)
        finally:
            with self._lock:
                entry[2] -= 1

    def _keep(self, key, entry):
        entry[2] += 1
        self._entries[key] = entry
        while len(self._entries) > self.capacity:
            self._entries.popitem(last=False)

    def clear(self):
        with self._lock:
            self._entries.clear()


_plans, _gradient_plans = _Plans(), _Plans()


def clear():
    _plans.clear()
    _gradient_plans.clear()


def _last(t):
    return torch._prims_common.suggest_memory_format(t) == torch.channels_last


def _empty(x, height, width, last):
    form = torch.channels_last if last else torch.contiguous_format
    return torch.empty((x.shape[0], x.shape[1], height, width), dtype=x.dtype, memory_format=form)


def _readable(t, last):
    """``t`` and its strides as a shape writes them; a copy where whole pixels (rows) cannot be read as they lie."""
    image, channel, row, pixel = t.stride()
    channels, height, width = t.shape[1:]
    if last and channel == 1 and pixel >= channels and row >= pixel * width and image >= row * height:
        return t, f"{pixel}x{row}x{image}"
    if not last and pixel == 1 and row >= width and channel >= row * height and image >= channel * channels:
        return t, f"{row}x{channel}x{image}"
    return _readable(_empty(t, *t.shape[2:], last).copy_(t), last)


def _sides(height, width, kernel, layer):
    stride_h, stride_w, dilation_h, dilation_w, top, bottom, left, right = layer
    rooms = (height + top + bottom - (dilation_h * (kernel[0] - 1) + 1), width + left + right - (dilation_w * (kernel[1] - 1) + 1))
    _check(min(rooms) >= 0, "the kernel is larger than the padded input")
    return rooms[0] // stride_h + 1, rooms[1] // stride_w + 1


def _check_shapes(x, weight):
    _check(x.dim() == 4, f"expected a 4-dimensional input, got {x.dim()} dimensions")
    _check(weight.dim() == 4 and weight.shape[1] == 1, "weight must be [channels, 1, kernel_h, kernel_w]")
    _check(x.shape[1] == weight.shape[0], f"the input has {x.shape[1]} channels, weight is for {weight.shape[0]}")


def _shape(batch, channels, sides, kernel, layer, dtype, layouts, strides):
    """The problem's text without bias and activation: what a plan depends on."""
    _check(dtype in _TYPES, "dtype of the input must be float32, bfloat16 or float16")
    stride_h, stride_w, dilation_h, dilation_w, top, bottom, left, right = layer
    return (f"n{batch}c{channels}h{sides[0]}w{sides[1]}k{kernel[0]}x{kernel[1]}d{dilation_h}x{dilation_w}s{stride_h}x{stride_w}"
            f"p{top}:{bottom}x{left}:{right}{layouts}{strides}{_TYPES[dtype]}")


class _Values:
    """Weight and bias in C order: where they lie, what they hold (all, or samples), and fp32 values of them."""

    def __init__(self, version, *tensors):
        self._tensors = [None if t is None else t.detach().contiguous() for t in tensors]
        for t in self._tensors:
            _check(t is None or t.dtype in _TYPES, "dtype of weight and bias must be float32, bfloat16 or float16")
        self.place = tuple(t is not None and t.data_ptr() for t in self._tensors)
        self.seen = (version, *(self._look(t) for t in self._tensors))

    @staticmethod
    def _look(t):
        if t is None:
            return None
        size = t.numel() * t.element_size()
        if size <= _WHOLE:
            return ctypes.string_at(t.data_ptr(), size)
        words = size // 4
        data = (ctypes.c_uint32 * words).from_address(t.data_ptr())
        return tuple(data[i * (words - 1) // (_SAMPLES - 1)] for i in range(_SAMPLES))

    def pointers(self):
        """(weights, bias) as the C API takes them; to be kept while it reads them."""
        self._wide = [None if t is None else t.float() for t in self._tensors]
        weight, bias = (*(None if t is None else t.data_ptr() for t in self._wide), None)[:2]
        return (ctypes.c_void_p * 1)(weight), bias


def _run(plan, function, pointers, batch, *last):
    options = _c.sized(_c.RunOptions, batch=batch)
    getattr(_c.lib, function)(plan, *pointers, *last, ctypes.byref(options))


def _depthwise(x, weight, bias, packed, version):
    layer, activation = unpack(packed)
    _check_shapes(x, weight)
    _check(bias is None or bias.shape == x.shape[1:2], f"bias must be [{x.shape[1]}]")
    last = _last(x)
    y = _empty(x, *_sides(*x.shape[2:], weight.shape[2:], layer), last)
    if x.shape[0] == 0 or x.shape[1] == 0:
        return y
    x, strides = _readable(x, last)
    shape = _shape(1, x.shape[1], x.shape[2:], weight.shape[2:], layer, x.dtype, "" if last else "nchw", "i" + strides)
    shape += ("nobias" if bias is None else "") + _ACTIVATIONS[activation]
    threads, values = torch.get_num_threads(), _Values(version, weight, bias)

    def make():
        handle, options = _c.Handle(_c.lib.replk_depthwise_destroy), _c.sized(_c.DepthwiseOptions, threads=threads)
        _c.lib.replk_depthwise_create_from_shape(
            shape.encode(), *values.pointers(), ctypes.byref(options), ctypes.byref(handle.pointer))
        return handle

    _plans.run(
        (shape, threads, values.place), values.seen, make,
        lambda plan: _c.lib.replk_depthwise_set_weights(plan, *values.pointers()),
        lambda plan: _run(plan, "replk_depthwise_run_with", (x.data_ptr(), y.data_ptr(), None), x.shape[0]))
    return y


def _gradient_plan(shape, threads, wanted, weights):
    handle = _c.Handle(_c.lib.replk_depthwise_gradient_destroy)
    options = _c.sized(_c.GradientOptions, threads=threads, wanted=wanted)
    _c.lib.replk_depthwise_gradient_create_from_shape(
        shape.encode(), weights, ctypes.byref(options), ctypes.byref(handle.pointer))
    return handle


def _layouts(last, dy_last):
    names = ["nhwc" if each else "nchw" for each in (last, dy_last)]
    return ">".join(names) if last != dy_last else "" if last else "nchw"


def _check_output(dy, sides, kernel, layer):
    height, width = _sides(*sides, kernel, layer)
    _check(dy.dim() == 4 and dy.shape[2:] == (height, width), f"the gradient of the output must be [n, c, {height}, {width}]")


def _input_gradient(dy, weight, height, width, last, packed, version):
    layer, _ = unpack(packed)
    _check_shapes(dy, weight)
    _check_output(dy, (height, width), weight.shape[2:], layer)
    dx = _empty(dy, height, width, last)
    if dy.shape[0] == 0 or dy.shape[1] == 0:
        return dx
    dy_last = _last(dy)
    dy, strides = _readable(dy, dy_last)
    shape = _shape(1, dy.shape[1], (height, width), weight.shape[2:], layer, dy.dtype, _layouts(last, dy_last), "o" + strides)
    shape += "nobias"
    threads, values = torch.get_num_threads(), _Values(version, weight)
    _gradient_plans.run(
        (shape, threads, values.place), values.seen,
        lambda: _gradient_plan(shape, threads, _c.GRADIENT_INPUT, values.pointers()[0]),
        lambda plan: _c.lib.replk_depthwise_gradient_set_weights(plan, values.pointers()[0]),
        lambda plan: _run(plan, "replk_depthwise_gradient_input", (dy.data_ptr(), dx.data_ptr()), dy.shape[0]))
    return dx


def _weight_gradient(x, dy, kernel_h, kernel_w, bias, packed):
    layer, _ = unpack(packed)
    _check(x.dim() == 4 and dy.dim() == 4 and x.shape[:2] == dy.shape[:2] and x.dtype == dy.dtype,
           "the input and the gradient of the output must agree in batch, channels and dtype")
    kernel, channels = (kernel_h, kernel_w), x.shape[1]
    _check_output(dy, x.shape[2:], kernel, layer)
    dw, db = torch.zeros((channels, 1, *kernel)), torch.zeros(channels if bias else 0)
    if x.shape[0] == 0 or channels == 0:
        return dw, db
    last, dy_last = _last(x), _last(dy)
    (x, x_strides), (dy, dy_strides) = _readable(x, last), _readable(dy, dy_last)
    shape = _shape(x.shape[0], channels, x.shape[2:], kernel, layer, x.dtype, _layouts(last, dy_last),
                   f"i{x_strides}o{dy_strides}") + "nobias"
    threads = torch.get_num_threads()
    _gradient_plans.run(
        (shape, threads, ()), (), lambda: _gradient_plan(shape, threads, _c.GRADIENT_WEIGHTS, None), None,
        lambda plan: _run(plan, "replk_depthwise_gradient_weights",
                          (x.data_ptr(), dy.data_ptr(), (ctypes.c_void_p * 1)(dw.data_ptr()), db.data_ptr() if bias else None),
                          x.shape[0], 0))
    return dw, db


def define():
    """Defines the ops. What is returned must live as long as they."""
    library = torch.library.Library("replk", "DEF")
    for schema, function in zip(_SCHEMAS, (_depthwise, _input_gradient, _weight_gradient)):
        library.define(schema)
        library.impl(schema.partition("(")[0], function, "CPU")
    return library
