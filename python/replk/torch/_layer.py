"""How a kernel lies over its input, in one integer: a call of an op costs a third of a microsecond an argument.

From the lowest bit: strides less 1 (4 bits each, vertical and horizontal), dilations less 1 (6 bits each), the pads top,
bottom, left and right (10 bits each), the activation (3 bits). integrations/torch/tensors.cpp reads the same.
"""
from __future__ import annotations

from collections.abc import Sequence

_FIELDS = (("stride", 4, 1), ("stride", 4, 1), ("dilation", 6, 1), ("dilation", 6, 1), *(("padding", 10, 0),) * 4)
_LARGEST = {name: (1 << bits) - 1 + least for name, bits, least in _FIELDS}
_ACTIVATIONS = {None: 0, "relu": 1, "gelu": 2, "silu": 3, "hardswish": 4}


def _pair(value, name):
    if isinstance(value, int):
        return value, value
    if len(value) != 2:
        raise ValueError(f"{name} is {value!r}; allowed: an integer or two")
    return value[0], value[1]


def _pads(padding, kernel, dilation, stride):
    """Top, bottom, left, right. 'same' puts the odd row or column behind, as conv2d does."""
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f"padding is 'same' with stride {stride}; allowed: with stride 1")
        rows, columns = (dilation[i] * (kernel[i] - 1) for i in range(2))
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2
    if padding == "valid":
        padding = 0
    if isinstance(padding, str):
        raise ValueError(f"padding is {padding!r}; allowed: an integer, two, 'same' or 'valid'")
    top, left = _pair(padding, "padding")
    if min(top, left) < 0:
        raise ValueError(f"padding is {padding!r}: negative padding is not supported")
    return top, top, left, left


def pack(stride: int | Sequence[int], padding: int | Sequence[int] | str, dilation: int | Sequence[int],
         activation: str | None, kernel: Sequence[int]) -> int:
    """The integer; what it cannot hold the library does not take: ValueError names it, and what is allowed."""
    stride, dilation = _pair(stride, "stride"), _pair(dilation, "dilation")
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; allowed: {', '.join(map(repr, _ACTIVATIONS))}")
    packed, shift = 0, 0
    for value, (name, bits, least) in zip((*stride, *dilation, *_pads(padding, kernel, dilation, stride)), _FIELDS):
        if not least <= value <= _LARGEST[name]:
            raise ValueError(f"{name} is {value}; allowed: {least} to {_LARGEST[name]}")
        packed, shift = packed + (value - least << shift), shift + bits
    return packed + (_ACTIVATIONS[activation] << shift)


def unpack(layer: int) -> tuple[tuple[int, ...], int]:
    """((stride_h, stride_w, dilation_h, dilation_w, top, bottom, left, right), the activation's number)."""
    values = []
    for _, bits, least in _FIELDS:
        values.append(layer % (1 << bits) + least)
        layer >>= bits
    return tuple(values), layer
