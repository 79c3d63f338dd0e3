"""The op replk::depthwise: loaded, described to PyTorch's tracers, and differentiated."""
import ctypes
from pathlib import Path

import torch

from .. import _c  # libreplk_cpu first: the op finds it by its name
from ..errors import Unsupported


def _path():
    beside = Path(__file__).with_name("replk_torch.so")
    return beside if beside.exists() else Path(_c.library_path()).with_name("replk_torch.so")


def _load():
    try:
        torch.ops.load_library(str(_path()))
    except OSError as error:
        raise Unsupported(
            f"replk.torch: the op {_path()} cannot be loaded by torch {torch.__version__}; allowed: 2.9 or later ({error})"
        ) from error
    return ctypes.CDLL(str(_path())).replk_torch_clear


clear = _load()
_depthwise = torch.ops.replk.depthwise.default


def _version(tensor):
    """What PyTorch counts of changes in place. Inference tensors and compiled graphs have no count: values alone tell."""
    if tensor is None or torch.compiler.is_compiling() or tensor.is_inference():
        return 0
    return tensor._version


def _memory_format(x):
    return torch.channels_last if torch._prims_common.suggest_memory_format(x) == torch.channels_last else torch.contiguous_format


@torch.library.register_fake("replk::depthwise")
def _fake(x, weight, bias, stride_h, stride_w, top, bottom, left, right, dilation_h, dilation_w, activation, version):
    height = (x.shape[2] + top + bottom - dilation_h * (weight.shape[2] - 1) - 1) // stride_h + 1
    width = (x.shape[3] + left + right - dilation_w * (weight.shape[3] - 1) - 1) // stride_w + 1
    return x.new_empty((x.shape[0], x.shape[1], height, width)).contiguous(memory_format=_memory_format(x))


def forward(x, weight, bias, arguments, activation):
    return _depthwise(
        x, weight, bias, *arguments, activation, _version(weight) + _version(bias)
    )


class _Train(torch.autograd.Function):
    """Gradients of both: of the input by the same op on the turned kernel where the stride is 1; else PyTorch's."""

    @staticmethod
    def forward(x, weight, bias, arguments):
        return forward(x, weight, bias, arguments, 0)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, bias, arguments = inputs
        ctx.save_for_backward(x, weight)
        ctx.arguments, ctx.has_bias = arguments, bias is not None

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        dx = input_gradient(dy, x, weight, ctx.arguments) if wants_x else None
        dw = weight_gradient(dy, x, weight, ctx.arguments) if wants_weight else None
        db = dy.float().sum((0, 2, 3)) if ctx.has_bias and wants_bias else None
        return dx, dw, db, None


def input_gradient(dy, x, weight, arguments):
    stride_h, stride_w, top, bottom, left, right, dilation_h, dilation_w = arguments
    if (stride_h, stride_w) != (1, 1):
        return _pytorch(dy, x, weight, arguments, (True, False))[0]
    rows, columns = dilation_h * (weight.shape[2] - 1), dilation_w * (weight.shape[3] - 1)
    turned = (1, 1, rows - top, rows - bottom, columns - left, columns - right, dilation_h, dilation_w)
    return forward(dy, weight.flip((2, 3)), None, turned, 0)


def weight_gradient(dy, x, weight, arguments):
    return _pytorch(dy, x, weight, arguments, (False, True))[1].to(weight.dtype)


def _pytorch(dy, x, weight, arguments, wanted):
    stride_h, stride_w, top, bottom, left, right, dilation_h, dilation_w = arguments
    padded = torch.nn.functional.pad(x, (left, right, top, bottom))
    dx, dw, _ = torch.ops.aten.convolution_backward(
        dy, padded, weight.to(dy.dtype), None, [stride_h, stride_w], [0, 0], [dilation_h, dilation_w], False, [0, 0],
        x.shape[1], [*wanted, False]
    )
    if dx is not None:
        dx = dx[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    return dx, dw


def train(x, weight, bias, arguments):
    return _Train.apply(x, weight, bias, arguments)
