"""A sum of convolutions of one input, each perhaps with batch norms, as few kernels: in double, rounded once.

An expression is ('x',), the input; ('conv', name), a convolution of it; ('norm', name, e), a batch norm of e; or ('add', e, e).
"""
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from .module import TYPES, DepthwiseConv2d


class Unequal(Exception):
    """The sum is none of convolutions that can be added up."""


@dataclass
class Kernel:
    """A convolution's weight [out, in / groups, kh, kw] and bias [out], and how it lies over its input (pairs)."""

    weight: torch.Tensor
    bias: torch.Tensor
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int
    by_replk: bool  # whether the convolution that it stems from was

    def reach(self, axis):
        """Pixels that its taps span."""
        return self.dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1

    def area(self):
        return self.reach(0) * self.reach(1)

    def scaled(self, scale, shift):
        """After an affine map of each result channel."""
        return replace(self, weight=self.weight * scale.view(-1, 1, 1, 1), bias=self.bias * scale + shift)

    def convolve(self, x):
        from . import depthwise_conv2d

        if self.by_replk and x.dim() == 4 and x.dtype in TYPES:
            return depthwise_conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def names_in(expression, kind=None):
    """Names of the convolutions and norms of an expression ('conv', 'norm' or both), once each."""
    own = [expression[1]] if expression[0] in ("conv", "norm") and kind in (None, expression[0]) else []
    below = [name for part in expression[1:] if isinstance(part, tuple) for name in names_in(part, kind)]
    return list(dict.fromkeys(own + below))


def _padding(m):
    if m.padding == "valid":
        return 0, 0
    if m.padding != "same":
        return tuple(m.padding)
    rooms = [d * (k - 1) for d, k in zip(m.dilation, m.kernel_size)]
    if any(room % 2 for room in rooms):
        raise Unequal("an even kernel's 'same' padding is not the same on both sides")
    return tuple(room // 2 for room in rooms)


def _of_convolution(m):
    zeros = torch.zeros(m.out_channels, dtype=torch.double, device=m.weight.device)
    bias = zeros if m.bias is None else m.bias.detach().double()
    return Kernel(m.weight.detach().double(), bias, m.stride, _padding(m), m.dilation, m.groups, isinstance(m, DepthwiseConv2d))


def _identity(like):
    """x itself, as a kernel of one tap."""
    channels = like.weight.shape[0]
    if like.groups != channels or like.weight.shape[1] != 1 or like.stride != (1, 1):
        raise Unequal("x itself is added to a convolution that is not depthwise with stride 1")
    ones = torch.ones(channels, 1, 1, 1, dtype=torch.double, device=like.weight.device)
    return Kernel(ones, torch.zeros_like(like.bias), (1, 1), (0, 0), (1, 1), channels, False)


def _affine(norm):
    """Scale and shift of a batch norm in eval mode."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


def _terms(expression, root, like):
    """Kernels whose results add up to an expression's."""
    kind = expression[0]
    if kind == "x":
        return [_identity(like)]
    if kind == "conv":
        return [_of_convolution(root.get_submodule(expression[1]))]
    if kind == "norm":
        scale, shift = _affine(root.get_submodule(expression[1]))
        terms = _terms(expression[2], root, like)
        return [term.scaled(scale, torch.zeros_like(shift) if i else shift) for i, term in enumerate(terms)]
    return [term for part in expression[1:] for term in _terms(part, root, like)]


def _dense_taps(kernel):
    """The kernel without dilation: zeros between its taps."""
    if kernel.dilation == (1, 1):
        return kernel.weight
    sides = kernel.weight.shape[:2]
    weight = kernel.weight.new_zeros(*sides, kernel.reach(0), kernel.reach(1))
    weight[:, :, :: kernel.dilation[0], :: kernel.dilation[1]] = kernel.weight
    return weight


def _add(into, small):
    """Adds a kernel to a larger one that covers its taps; False where none does."""
    if (small.stride, small.groups, small.weight.shape[:2]) != (into.stride, into.groups, into.weight.shape[:2]):
        raise Unequal("branches differ in stride, groups or channels")
    offsets = [into.padding[a] - small.padding[a] for a in (0, 1)]
    if any(into.reach(a) - 2 * into.padding[a] != small.reach(a) - 2 * small.padding[a] for a in (0, 1)):
        raise Unequal("branches have results of different sides")
    if into.dilation != (1, 1) or any(o < 0 for o in offsets):
        return False
    taps = _dense_taps(small)
    rows, columns = (slice(o, o + side) for o, side in zip(offsets, taps.shape[2:]))
    into.weight = into.weight.clone()
    into.weight[:, :, rows, columns] += taps
    into.bias = into.bias + small.bias
    return True


def kernels_of(expression, root):
    """The kernels, largest first, whose results add up to an expression of root's modules (fuse.py), in the weights' type."""
    first = root.get_submodule(names_in(expression, "conv")[0])
    like, kernels = _of_convolution(first), []
    for term in sorted(_terms(expression, root, like), key=Kernel.area, reverse=True):
        if not any(_add(kernel, term) for kernel in kernels):
            kernels.append(term)
    for kernel in kernels:
        kernel.weight, kernel.bias = kernel.weight.to(first.weight.dtype), kernel.bias.to(first.weight.dtype)
    return kernels
