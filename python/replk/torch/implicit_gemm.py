"""The large-kernel convolution of RepLKNet's, SLaK's and UniRepLKNet's repositories by the names that their code imports.

Theirs is a CUDA extension (module ``depthwise_conv2d_implicit_gemm``). This one has its contract, on CPUs, and differs where
theirs goes wrong: ``padding`` says what is computed, so that a convolution made from this one's attributes is the same;
bfloat16 and float64 work; even kernels, whose result theirs leaves undefined, are refused; no failure ends the process.
"""
import sys
from pathlib import Path

import torch
from torch.nn.modules.utils import _pair

from .module import DepthwiseConv2d

__all__ = ["DepthWiseConv2dImplicitGEMM", "install_drop_in"]


def _padding(sides):
    if any(side < 1 or side % 2 == 0 for side in sides):
        raise ValueError(f"DepthWiseConv2dImplicitGEMM: kernel is {tuple(sides)}; allowed: odd sides")
    return tuple(side // 2 for side in sides)


class DepthWiseConv2dImplicitGEMM(DepthwiseConv2d):
    """A depthwise convolution with stride 1 whose result has its input's sides.

    ``kernel``: an odd side or two, rows first; ``bias`` as in theirs is none unless asked for.
    """

    def __init__(self, channels, kernel, bias=False):
        super().__init__(channels, _pair(kernel), padding=_padding(_pair(kernel)), bias=bias)


class _InType:
    """What an autograd.Function has: ``apply(x, w)`` of x [n, c, h, w] and w [c, 1, kh, kw], computed in one type."""

    dtype = None

    @classmethod
    def apply(cls, x, w):
        from . import depthwise_conv2d

        with torch.autocast(x.device.type, enabled=False):
            return depthwise_conv2d(x.to(cls.dtype), w.to(cls.dtype), padding=_padding(w.shape[2:]))


class _DepthWiseConv2dImplicitGEMMFP32(_InType):
    dtype = torch.float32


class _DepthWiseConv2dImplicitGEMMFP16(_InType):
    dtype = torch.float16


def install_drop_in():
    """Makes ``import depthwise_conv2d_implicit_gemm`` give this implementation in this process, whatever else is installed.

    To be called before the authors' code is imported. Returns the module. Without it: the directory ``replk/torch/drop_in`` in
    LARGE_KERNEL_CONV_IMPL, DWCONV_IMPL or PYTHONPATH.
    """
    sys.modules["depthwise_conv2d_implicit_gemm"] = sys.modules[__name__]
    return sys.modules[__name__]


DIRECTORY = str(Path(__file__).with_name("drop_in"))
