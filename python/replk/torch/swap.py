"""Whole networks: depthwise ``nn.Conv2d`` modules are computed by replk from now on, and by PyTorch again after `restore`.

A swapped module is the same object with another class: its parameters, buffers, hooks and every place that refers to it stay
as they are, and so do the keys of the network's state_dict.
"""
from dataclasses import dataclass, field

from torch import nn

from . import fuse as _fuse
from . import timing as _timing
from .module import TYPES, DepthwiseConv2d

_MAX_SIDE, _MAX_LINE, _MAX_STRIDE = 63, 127, 16


class SwappedConv2d(DepthwiseConv2d):
    """An ``nn.Conv2d`` that `optimize` swapped; `restore` makes it one again."""


@dataclass(frozen=True)
class Layer:
    """What became of one convolution: its name in the network, and why."""

    name: str
    swapped: bool
    reason: str

    def __str__(self):
        return f"{'swapped' if self.swapped else 'left   '} {self.name}: {self.reason}"


@dataclass
class Report:
    """Every convolution of a network, in the network's order, and the modules that run as fewer convolutions in eval mode."""

    layers: list = field(default_factory=list)
    fused: list = field(default_factory=list)

    @property
    def swapped(self):
        return [layer for layer in self.layers if layer.swapped]

    @property
    def left(self):
        return [layer for layer in self.layers if not layer.swapped]

    def __str__(self):
        lines = [str(layer) for layer in self.layers] + [f"fused   {name}: {what}" for name, what in self.fused]
        lines.append(f"{len(self.swapped)} of {len(self.layers)} convolutions swapped, {len(self.fused)} modules fused")
        return "\n".join(lines)


def _sides(kernel):
    return "x".join(str(side) for side in kernel)


def _refused_of_any(m):
    """Why no kernel of this module could be swapped, whatever its sides; or None."""
    if type(m) is not nn.Conv2d:
        return f"its class is {type(m).__name__}, and only nn.Conv2d itself is known to compute what its name says"
    if "forward" in m.__dict__:
        return "its forward has been replaced"
    if m.groups != m.in_channels:
        return f"not depthwise: {m.groups} group(s) of {m.in_channels} channels"
    if m.out_channels != m.in_channels:
        return f"{m.out_channels // m.in_channels} results a channel; allowed: 1"
    if m.padding_mode != "zeros":
        return f"padding is {m.padding_mode!r}; allowed: 'zeros'"
    if m._parameters.get("weight") is None:
        return "its weight is no parameter: a hook computes it in every call, and each would be planned for"
    if m.weight.dtype not in TYPES:
        return f"its type is {m.weight.dtype}; allowed: float32, bfloat16 and float16"
    if m.weight.device.type != "cpu":
        return f"it is on {m.weight.device}; allowed: cpu"
    return None


def _refused(m, min_kernel):
    """Why a module is left as it is; None where it can be swapped."""
    reason = _refused_of_any(m)
    if reason:
        return reason
    if max(m.kernel_size) < min_kernel:
        return f"kernel {_sides(m.kernel_size)}; swapped from min_kernel = {min_kernel} on"
    if max(m.kernel_size) > (_MAX_LINE if min(m.kernel_size) == 1 else _MAX_SIDE):
        return f"kernel {_sides(m.kernel_size)}; allowed: sides to {_MAX_SIDE}, to {_MAX_LINE} where the other is 1"
    if max(m.stride) > _MAX_STRIDE:
        return f"stride {_sides(m.stride)}; allowed: to {_MAX_STRIDE}"
    return None


def optimize(module, min_kernel=5, fuse=False, example=None):
    """Swaps the depthwise convolutions of a network, in place, and returns a `Report` of each with a reason.

    ``min_kernel``: kernels whose longer side is at least this are swapped. ``example``: an input (or a tuple of inputs) of the
    network; with it, every layer is timed once with PyTorch and once with replk, on the inputs that it gets in a run of the
    network (in eval mode, without gradients), and left if replk is not faster. ``fuse``: where modules are in eval mode and
    no gradient of their parameters is asked for, fold batch norms into the convolutions before them and add up parallel
    branches of one input into one kernel; parameters and state_dict stay, and the fused kernels follow them when they change.

    Only modules whose type is ``nn.Conv2d`` itself are swapped, with one output a channel and zero padding; the rest is left.
    Training, autocast, hooks, ``torch.compile``, ``copy.deepcopy``, pickling and shared modules work as before;
    ``torch.jit.script`` does not take swapped modules. Do not call it while the network runs in another thread. Called
    again, it swaps what is new.
    """
    if isinstance(min_kernel, bool) or not isinstance(min_kernel, int) or min_kernel < 1:
        raise ValueError(f"min_kernel is {min_kernel!r}; allowed: an integer from 1 on")
    report, candidates = Report(), []
    for name, m in module.named_modules():
        if not isinstance(m, nn.modules.conv._ConvNd):
            continue
        if isinstance(m, DepthwiseConv2d):
            report.layers.append(Layer(name, True, "computed by replk already"))
            continue
        refused = _refused(m, min_kernel)
        if refused is None:
            candidates.append((len(report.layers), name, m))
        what = f"{m.in_channels} channels, kernel {_sides(m.kernel_size)}"
        report.layers.append(Layer(name, refused is None, refused or what))
    if example is not None:
        times = _timing.compare(module, [m for _, _, m in candidates], example)
        for at, name, m in candidates:
            swapped, reason = times[m]
            report.layers[at] = Layer(name, swapped, f"{report.layers[at].reason}: {reason}")
    for at, _, m in candidates:
        if report.layers[at].swapped:
            m.__class__ = SwappedConv2d
    if fuse:
        report.fused = _fuse.fuse(module)
    return report


def restore(module):
    """Undoes `optimize`, in place: all modules have the class and the forward that they had. Returns the module."""
    for m in module.modules():
        _fuse.restore(m)
        if type(m) is SwappedConv2d:
            m.__class__ = nn.Conv2d
    return module
