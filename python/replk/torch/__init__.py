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
from ._layer import pack
from .implicit_gemm import install_drop_in
from .module import DepthwiseConv2d
from .swap import Report, optimize, restore

_packed = {}  # what calls said of their layers, packed; not 'same', which depends on the kernel
_is_compiling, _is_grad_enabled = torch.compiler.is_compiling, torch.is_grad_enabled
# Of any device: a third of what the question for one costs. Not every torch has it.
_is_any_autocast_enabled = getattr(torch._C, "_is_any_autocast_enabled", lambda: True)


def _pack(stride, padding, dilation, activation, weight):
    """pack() of it, and remembered if it can be."""
    layer = pack(stride, padding, dilation, activation, weight.shape[2:])
    if padding != "same" and all(isinstance(each, (int, str, tuple)) for each in (stride, padding, dilation)):
        if len(_packed) >= 1024:
            _packed.clear()
        _packed[stride, padding, dilation, activation] = layer
    return layer


def depthwise_conv2d(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0, dilation: int | tuple[int, int] = 1, activation: str | None = None,
) -> torch.Tensor:
    """``torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups=channels)``, then an activation.

    ``x``: [n, c, h, w], float32, bfloat16 or float16, NCHW or channels-last; the result has its type and format. ``weight``:
    [c, 1, kh, kw]; ``bias``: [c] or None; both of any of these types. Sums are fp32. ``padding``: an integer, two, 'same' or
    'valid'. ``activation``: None, 'relu', 'gelu' (erf), 'silu' or 'hardswish'; not with gradients. Kernel sides to
    63 (to 127 where the other is 1), strides to 16. What is not on a CPU goes to ``conv2d``.
    """
    if not x.is_cpu and not x.is_meta:
        y = torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, x.shape[1])
        return y if activation is None else getattr(torch.nn.functional, activation)(y)
    compiling = _is_compiling()
    if compiling:  # which would watch what is remembered
        layer = pack(stride, padding, dilation, activation, weight.shape[2:])
    else:
        try:
            layer = _packed[stride, padding, dilation, activation]
        except (KeyError, TypeError):  # or a list
            layer = _pack(stride, padding, dilation, activation, weight)
    if (compiling or _is_any_autocast_enabled()) and torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))
    if _is_grad_enabled() and (x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)):
        if activation is not None:
            raise ValueError(f"activation is {activation!r} where gradients are asked for; allowed: None")
        return _op.train(x, weight, bias, layer)
    return _op.forward(x, weight, bias, layer) if compiling else _op.forward_at_once(x, weight, bias, layer)


def clear_plans() -> None:
    """Forgets all plans that calls have made: frees their memory."""
    _op.clear()


__all__ = ["DepthwiseConv2d", "Report", "clear_plans", "depthwise_conv2d", "install_drop_in", "optimize", "restore"]
