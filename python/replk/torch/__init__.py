"""The depthwise convolution as a PyTorch op, and a module in the place of ``nn.Conv2d``.

    from replk.torch import depthwise_conv2d, DepthwiseConv2d
    y = depthwise_conv2d(x, weight, bias, padding=15)      # as torch.nn.functional.conv2d with groups = channels
    print(replk.torch.optimize(network))                   # or all of a network's, in place (swap.py)

Works under autograd, autocast, ``torch.compile`` and ``torch.export``; NCHW and channels-last tensors are read where they
lie. docs/python.md says what is kept between calls.
"""
from __future__ import annotations

import torch

from . import _op
from .implicit_gemm import install_drop_in
from .module import DepthwiseConv2d
from .swap import Report, optimize, restore

_ACTIVATIONS = {None: 0, "relu": 1, "gelu": 2, "silu": 3, "hardswish": 4}


def _pair(value, name):
    if isinstance(value, int):
        return value, value
    if len(value) != 2:
        raise ValueError(f"{name} is {value!r}; allowed: an integer or two")
    return int(value[0]), int(value[1])


def _paddings(padding, weight, dilation, stride):
    """Top, bottom, left, right. 'same' puts the odd row or column behind, as conv2d does."""
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f"padding is 'same' with stride {stride}; allowed: with stride 1")
        rows, columns = (dilation[i] * (weight.shape[2 + i] - 1) for i in range(2))
        return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2
    if padding == "valid":
        padding = 0
    if isinstance(padding, str):
        raise ValueError(f"padding is {padding!r}; allowed: an integer, two, 'same' or 'valid'")
    top, left = _pair(padding, "padding")
    return top, top, left, left


def depthwise_conv2d(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0, dilation: int | tuple[int, int] = 1, activation: str | None = None,
) -> torch.Tensor:
    """``torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups=channels)``, then an activation.

    ``x``: [n, c, h, w], float32, bfloat16 or float16, NCHW or channels-last; the result is like it. ``weight``: [c, 1, kh,
    kw]; ``bias``: [c] or None; both of any of these types, sums are fp32. ``padding``: an integer, two, 'same' or 'valid'.
    ``activation``: None, 'relu', 'gelu' (erf), 'silu' or 'hardswish'; not where gradients are asked for. Kernel sides to
    63 (to 127 where the other is 1), strides to 16. What is not on a CPU goes to ``conv2d``.
    """
    if type(stride) is type(padding) is type(dilation) is int:  # the short way: a call costs microseconds
        arguments = stride, stride, padding, padding, padding, padding, dilation, dilation
    else:
        stride, dilation = _pair(stride, "stride"), _pair(dilation, "dilation")
        arguments = (*stride, *_paddings(padding, weight, dilation, stride), *dilation)
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; allowed: {', '.join(map(repr, _ACTIVATIONS))}")
    if x.device.type != "cpu" and not x.is_meta:
        pads = arguments[2:6]
        y = torch.nn.functional.conv2d(
            torch.nn.functional.pad(x, (pads[2], pads[3], pads[0], pads[1])), weight, bias, stride, 0, dilation, x.shape[1]
        )
        return y if activation is None else getattr(torch.nn.functional, activation)(y)
    if torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)):
        if activation is not None:
            raise ValueError(f"activation is {activation!r} where gradients are asked for; allowed: None")
        return _op.train(x, weight, bias, arguments)
    return _op.forward(x, weight, bias, arguments, _ACTIVATIONS[activation])


def clear_plans() -> None:
    """Forgets all plans that calls have made: frees their memory."""
    _op.clear()


__all__ = ["DepthwiseConv2d", "Report", "clear_plans", "depthwise_conv2d", "install_drop_in", "optimize", "restore"]
