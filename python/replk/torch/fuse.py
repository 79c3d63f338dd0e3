"""Modules that run as fewer convolutions in eval mode: batch norms folded, parallel branches of one input added up.

What a module computes is read from a trace of its forward (torch.fx): a sum of convolutions of its one input, each perhaps
followed by a batch norm, and then perhaps modules of one argument, such as a ReLU. That covers a convolution with its batch
norm in a Sequential, RepLKNet's and SLaK's large kernels with their small ones, UniRepLKNet's dilated branches. The module
keeps its parameters and its own forward, which runs in training mode and wherever something could see the difference.
"""
import ctypes
import functools
import operator

import torch
from torch import fx, nn

from .branches import kernels_of, names_in
from .module import DepthwiseConv2d
from .timing import evaluating

_LARGEST = 32  # modules below one that is tried: a block's part, not a network
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
_ADDITIONS = (operator.add, operator.iadd, torch.add)


class _NoMatch(Exception):
    """The module computes something else."""


class _Proxy(fx.Proxy):
    """Distinguishes `x += y` from `x + y`, which fx records alike."""

    def __iadd__(self, other):
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})


class _Tracer(fx.Tracer):
    def proxy(self, node):
        return _Proxy(node, self)

    def is_leaf_module(self, m, name):
        return not m._modules or not any(isinstance(part, nn.Conv2d) for part in m.modules())


def _plain(m):
    """Whether leaving out this module's call, and its output, is seen by nobody."""
    hooks = (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)
    return not any(hooks) and "forward" not in m.__dict__


def _is_convolution(m):
    return ((type(m) is nn.Conv2d or isinstance(m, DepthwiseConv2d)) and m.padding_mode == "zeros" and _plain(m)
            and m._parameters.get("weight") is not None)


def _is_norm(m):
    return type(m) in _NORMS and m.running_mean is not None and _plain(m)


def _expression(node, root):
    """What a traced node computes (branches.py)."""
    if node.op == "placeholder":
        return ("x",)
    if node.op == "call_function" and node.target in _ADDITIONS and len(node.args) == 2 and not node.kwargs:
        return _addition(node, root)
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
        raise _NoMatch
    m, argument = root.get_submodule(node.target), node.args[0]
    if type(m) is nn.Identity and _plain(m):
        return _expression(argument, root)
    if _is_convolution(m) and argument.op == "placeholder":
        return ("conv", node.target)
    if _is_norm(m):
        return ("norm", node.target, _expression(argument, root))
    raise _NoMatch


def _addition(node, root):
    first, second = node.args
    if node.target is operator.iadd and isinstance(first, fx.Node) and (first.op == "placeholder" or len(first.users) != 1):
        raise _NoMatch  # it changes what somebody else sees
    parts = [_expression(a, root) for a in (first, second) if isinstance(a, fx.Node)]
    if len(parts) == 1 and 0 in (first, second):  # a sum that begins with 0
        return parts[0]
    if len(parts) != 2:
        raise _NoMatch
    return ("add", *parts)


def _recipe(root):
    """Of what a module computes in eval mode: the expression, and paths of the modules after it, of all that are left out,
    and of those whose tensors it is made of."""
    graph = _Tracer().trace(root)
    if sum(node.op == "placeholder" for node in graph.nodes) != 1:
        raise _NoMatch
    node = next(node for node in reversed(graph.nodes) if node.op == "output").args[0]
    after = []
    while isinstance(node, fx.Node) and node.op == "call_module":
        m = root.get_submodule(node.target)
        if _is_convolution(m) or isinstance(m, _NORMS) or type(m) is nn.Identity or len(node.args) != 1 or node.kwargs:
            break
        after.insert(0, node.target)
        node = node.args[0]
    if not isinstance(node, fx.Node):
        raise _NoMatch
    expression = _expression(node, root)
    if not names_in(expression, "conv") or len(names_in(expression)) < 2:
        raise _NoMatch  # one convolution alone: nothing to fold
    kernels_of(expression, root)
    below_after = tuple(f"{name}." for name in after)
    left_out = {name: m for name, m in root.named_modules() if name and not f"{name}.".startswith(below_after)}
    if not all(map(_plain, left_out.values())):
        raise _NoMatch
    paths = [[tuple(name.split(".")) for name in names] for names in (after, left_out, names_in(expression))]
    return expression, *paths


def _at(m, path):
    """A module below m: `get_submodule` takes longer than some batch norms."""
    for name in path:
        m = m._modules[name]
    return m


class FusedModule:
    """A module with `fuse`'s forward before its own."""

    def forward(self, *arguments, **named):
        kernels = self._replk_kernels() if len(arguments) == 1 and not named and self._replk_applies() else None
        if kernels is None:
            return super().forward(*arguments, **named)
        y = _run(kernels, arguments[0])
        for path in self._replk_recipe[1]:
            y = _at(self, path)(y)
        return y

    def _replk_applies(self):
        if self.training or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export() or torch.jit.is_tracing():
            return False
        parts = [_at(self, path) for path in self._replk_recipe[2]]
        if any(m.training or not _plain(m) for m in parts):
            return False
        return not torch.is_grad_enabled() or not any(p.requires_grad for m in parts for p in m.parameters())

    def _replk_kernels(self):
        """The folded kernels, made again when a parameter or a statistic has changed; None where these are not on a CPU."""
        parts = [_at(self, path) for path in self._replk_recipe[3]]
        tensors = [t for m in parts for of in (m._parameters, m._buffers) for t in of.values() if t is not None]
        kept = self.__dict__.get("_replk_kept")
        if kept and kept.current(tensors):
            return kept.kernels
        if not all(t.is_cpu for t in tensors):
            return None
        with torch.inference_mode(False), torch.no_grad():
            kernels = kernels_of(self._replk_recipe[0], self)
            # Into the memory of those before, if there are: a plan sees by PyTorch's count that they have changed.
            for old, new in zip(kept.kernels if kept else (), kernels):
                if (old.weight.shape, old.weight.dtype) == (new.weight.shape, new.weight.dtype):
                    new.weight, new.bias = old.weight.copy_(new.weight), old.bias.copy_(new.bias)
        self.__dict__["_replk_kept"] = _Kept(tensors, kernels)
        return kernels

    def train(self, mode=True):
        self.__dict__.pop("_replk_kept", None)
        return super().train(mode)

    def _apply(self, *arguments, **named):
        self.__dict__.pop("_replk_kept", None)
        return super()._apply(*arguments, **named)

    def __reduce_ex__(self, protocol):
        state = {key: value for key, value in self.__dict__.items() if key != "_replk_kept"}
        return _again, (_original(type(self)),), state


class _Kept:
    """Kernels, and what they were made of: where it lies, PyTorch's counts of changes, and bytes of each tensor (all of a small
    one, some of a large one), since writes through `.data` are not counted."""

    _WHOLE, _PIECES, _PIECE = 4096, 4, 256

    def __init__(self, tensors, kernels):
        self.kernels, self._key = kernels, self._key_of(tensors)
        self._places = [place for t in tensors for place in self._places_in(t.data_ptr(), t.numel() * t.element_size())]
        self._bytes = [ctypes.string_at(*place) for place in self._places]

    @staticmethod
    def _key_of(tensors):
        return [(t.data_ptr(), t.numel(), t.dtype, t.is_cpu, 0 if t.is_inference() else t._version) for t in tensors]

    @classmethod
    def _places_in(cls, address, size):
        if size <= cls._WHOLE:
            return [(address, size)]
        return [(address + i * (size - cls._PIECE) // (cls._PIECES - 1), cls._PIECE) for i in range(cls._PIECES)]

    def current(self, tensors):
        """The bytes are looked at only where the tensors still lie where they lay."""
        return self._key == self._key_of(tensors) and all(
            ctypes.string_at(address, size) == values for (address, size), values in zip(self._places, self._bytes))


def _run(kernels, x):
    total = None
    for kernel in kernels:
        y = kernel.convolve(x)
        total = y if total is None else total.add_(y)
    return total


@functools.cache
def _class_of(original):
    return type(f"Fused{original.__name__}", (FusedModule, original), {"__module__": __name__})


def _original(fused):
    return fused.__bases__[1]


def _again(original):
    """An empty module for pickle and copy.deepcopy, which fill it."""
    made = _class_of(original)
    return made.__new__(made)


def fuse(module):
    """Fuses what can be, the largest parts first. Returns [(name, what became of it)]."""
    done, inside = [], set()
    with evaluating(module):
        for name, m in module.named_modules():
            if m in inside or isinstance(m, nn.Conv2d) or "forward" in m.__dict__:
                continue
            parts = list(m.modules())
            if len(parts) > _LARGEST or not any(isinstance(part, nn.Conv2d) for part in parts):
                continue
            if isinstance(m, FusedModule):
                inside.update(parts)
                continue
            try:
                recipe = _recipe(m)
            except Exception:  # whatever the tracer meets in somebody's forward: it cannot be read, and stays
                continue
            inside.update(parts)
            m.__class__ = _class_of(type(m))
            m.__dict__["_replk_recipe"] = recipe
            done.append((name, _describe(recipe[0], m)))
    return done


def _describe(expression, m):
    convolutions, norms = len(names_in(expression, "conv")), len(names_in(expression, "norm"))
    return f"{convolutions} convolution(s) and {norms} batch norm(s) run as {len(kernels_of(expression, m))}"


def restore(m):
    if isinstance(m, FusedModule):
        m.__class__ = _original(type(m))
        m.__dict__.pop("_replk_recipe"), m.__dict__.pop("_replk_kept", None)
