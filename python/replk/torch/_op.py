"""The ops replk::depthwise and its gradients: loaded, described to PyTorch's tracers, and differentiated."""
import ctypes
import warnings
from pathlib import Path

import torch

from .. import _c  # libreplk_cpu first: the op finds it by its name
from . import _fallback
from ._layer import unpack


def _path():
    beside = Path(__file__).with_name("replk_torch.so")
    return beside if beside.exists() else Path(_c.library_path()).with_name("replk_torch.so")


def _load():
    """Whether the compiled ops are there (else they are defined in Python), what keeps them, and what forgets their plans."""
    try:
        torch.ops.load_library(str(_path()))
    except OSError as error:
        if torch.__version__ >= (2, 9):  # older ones lack the ABI: that is no news
            warnings.warn(
                f"replk.torch: {_path()} cannot be loaded by torch {torch.__version__}, its Python form serves: {error}",
                RuntimeWarning, stacklevel=2)
        return False, _fallback.define(), _fallback.clear
    library = ctypes.CDLL(str(_path()))
    return True, library, library.replk_torch_clear


compiled, _keeps, clear = _load()
_depthwise = torch.ops.replk.depthwise.default
_input_gradient = torch.ops.replk.depthwise_input_gradient.default
_weight_gradient = torch.ops.replk.depthwise_weight_gradient.default


# What OpOverload.__call__ passes its layer to, and nothing else: half a microsecond.
_depthwise_at_once = getattr(_depthwise, "_op", _depthwise)
_is_compiling = torch.compiler.is_compiling
_are_transforms_active = torch._C._are_functorch_transforms_active


def _version(weight, bias=None):
    """What PyTorch counts of changes in place, of weight in the upper half. Inference tensors have no count: their values alone show a change."""
    version = 0 if weight.is_inference() else weight._version << 32  # asked first: what is raised takes 30 us
    return version if bias is None or bias.is_inference() else version + bias._version


def _memory_format(x):
    """PyTorch's suggest_memory_format, which takes ten times as long where no one can doubt."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    if last != x.is_contiguous():
        return torch.channels_last if last else torch.contiguous_format
    return torch.channels_last if torch._prims_common.suggest_memory_format(x) == torch.channels_last else torch.contiguous_format


@torch.library.register_fake("replk::depthwise")
def _fake(x, weight, bias, layer, version):
    if weight.device != x.device:  # of real tensors: one is a meta tensor, and there would be no result
        raise RuntimeError(f"replk: the input is on {x.device}, weight on {weight.device}; allowed: the same")
    (stride_h, stride_w, dilation_h, dilation_w, top, bottom, left, right), _ = unpack(layer)
    height = (x.shape[2] + top + bottom - dilation_h * (weight.shape[2] - 1) - 1) // stride_h + 1
    width = (x.shape[3] + left + right - dilation_w * (weight.shape[3] - 1) - 1) // stride_w + 1
    return x.new_empty((x.shape[0], x.shape[1], height, width)).contiguous(memory_format=_memory_format(x))


@torch.library.register_fake("replk::depthwise_input_gradient")
def _fake_input_gradient(dy, weight, height, width, channels_last, *_):
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return dy.new_empty((dy.shape[0], dy.shape[1], height, width)).contiguous(memory_format=memory_format)


@torch.library.register_fake("replk::depthwise_weight_gradient")
def _fake_weight_gradient(x, dy, kernel_h, kernel_w, bias, *_):
    channels = x.shape[1]
    return (
        x.new_empty((channels, 1, kernel_h, kernel_w), dtype=torch.float32),
        x.new_empty((channels if bias else 0,), dtype=torch.float32),
    )


def forward(x, weight, bias, layer):
    return _depthwise(x, weight, bias, layer, 0) if _is_compiling() else forward_at_once(x, weight, bias, layer)


def forward_at_once(x, weight, bias, layer):
    """Where nothing is compiled."""
    return _depthwise_at_once(x, weight, bias, layer, _version(weight, bias))


class _Train(torch.autograd.Function):
    """The convolution. Each of its gradients is linear in both of its layer, as it is itself, and differentiated by
    the other two: so of any order."""

    @staticmethod
    def forward(x, weight, bias, layer):
        return forward(x, weight, bias, layer)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, bias, layer = inputs
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.bias_type = layer, None if bias is None else bias.dtype
        ctx.place = (x.shape[2], x.shape[3], _memory_format(x) == torch.channels_last)  # here: the tracer wants it so

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        # Gradients of these are asked for by create_graph alone; recording them costs more than a small layer.
        of_input, of_weight = _InputGradient.apply, _WeightGradient.apply
        if not torch.is_grad_enabled():
            of_input, of_weight = _InputGradient.forward, _WeightGradient.forward
        dx = of_input(dy, weight, ctx.place, ctx.layer) if wants_x else None
        dw = db = None
        if wants_weight or wants_bias:
            dw, db = of_weight(x, dy, weight, wants_bias, ctx.place, ctx.layer)
        return dx, dw if wants_weight else None, db.to(ctx.bias_type) if wants_bias else None, None


class _TrainAtOnce(_Train):
    """The same without what torch.func wants, whose checks of a call cost more than a small layer."""

    @staticmethod
    def forward(ctx, x, weight, bias, layer):
        _Train.setup_context(ctx, (x, weight, bias, layer), None)
        return forward(x, weight, bias, layer)

    setup_context = torch.autograd.Function.setup_context


class _InputGradient(torch.autograd.Function):
    """dx of dy and weight; `place`: height, width and whether x is channels-last."""

    @staticmethod
    def forward(dy, weight, place, layer):
        return _input_gradient(dy, weight, *place, layer, 0 if _is_compiling() else _version(weight))

    @staticmethod
    def setup_context(ctx, inputs, output):
        dy, weight, ctx.place, ctx.layer = inputs
        ctx.save_for_backward(dy, weight)

    @staticmethod
    def backward(ctx, ddx):
        dy, weight = ctx.saved_tensors
        wants_dy, wants_weight = ctx.needs_input_grad[:2]
        ddy = _Train.apply(ddx, weight, None, ctx.layer) if wants_dy else None
        dw = _WeightGradient.apply(ddx, dy, weight, False, ctx.place, ctx.layer)[0] if wants_weight else None
        return ddy, dw, None, None


class _WeightGradient(torch.autograd.Function):
    """The gradients of weight and bias, of x and dy; `like` has the sides and type of weight, `place` is x's."""

    @staticmethod
    def forward(x, dy, like, bias, place, layer):
        dw, db = _weight_gradient(x, dy, like.shape[2], like.shape[3], bias, layer)
        return dw.to(like.dtype), db

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, dy, _, ctx.bias, ctx.place, ctx.layer = inputs
        ctx.save_for_backward(x, dy)

    @staticmethod
    def backward(ctx, ddw, ddb):
        x, dy = ctx.saved_tensors
        wants_x, wants_dy = ctx.needs_input_grad[:2]
        dx = _InputGradient.apply(dy, ddw, ctx.place, ctx.layer) if wants_x else None
        ddy = _Train.apply(x, ddw, ddb if ctx.bias else None, ctx.layer) if wants_dy else None
        return dx, ddy, None, None, None, None


def train(x, weight, bias, layer):
    function = _Train if _is_compiling() or _are_transforms_active() else _TrainAtOnce
    return function.apply(x, weight, bias, layer)
