"""Depthwise layers of a graph as linear forms: branches that read one tensor, summed, with a bias.

A ``Conv`` is one; a BatchNorm or a factor a channel behind it changes its weights; the sum of two that read the same tensor is
one again. All in double, rounded once at the end.
"""
from dataclasses import dataclass, field

import numpy as np

from ._graph import attributes, is_op


class Left(Exception):
    """A node that is left alone: why."""


@dataclass
class Branch:
    weight: np.ndarray  # [outputs, 1, rows, columns], double
    dilation: tuple

    def span(self, axis):
        return self.dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1


@dataclass
class Linear:
    source: str  # the tensor that it reads
    output: str
    channels: int
    multiplier: int
    rank: int  # of the tensors: 4, or 3 without a height
    element: str
    strides: tuple
    pads: tuple  # top, left, bottom, right, of the smallest rectangle that holds all branches
    branches: list
    bias: np.ndarray
    nodes: list = field(default_factory=list)  # what it stands for

    def span(self, axis):
        return max(branch.span(axis) for branch in self.branches)

    def side(self):
        """The longest side of a kernel."""
        return max(max(b.weight.shape[2:]) for b in self.branches)

    def text(self):
        """Its kernels, as a shape spells them."""
        words = []
        for b in self.branches:
            rows, columns = b.weight.shape[2:]
            kernel = str(rows) if rows == columns else f"{rows}x{columns}"
            words.append(kernel + ("" if b.dilation == (1, 1) else f"d{b.dilation[0]}x{b.dilation[1]}"))
        return "k" + ",".join(words) + ("" if self.strides == (1, 1) else f"s{self.strides[0]}x{self.strides[1]}")


def _integers(values, name, count, default):
    found = values.get(name)
    if found is None:
        return [default] * count
    if not isinstance(found, (list, tuple)) or len(found) != count or not all(isinstance(v, int) for v in found):
        raise Left(f"{name} has not {count} integers")
    return list(found)


def _pads(graph, node, values, axes, spans, strides):
    """Of each axis, before and after."""
    automatic = values.get("auto_pad", b"NOTSET") or b"NOTSET"
    if automatic in (b"NOTSET", b""):
        flat = _integers(values, "pads", 2 * axes, 0)
        return list(zip(flat[:axes], flat[axes:]))
    if automatic == b"VALID":
        return [(0, 0)] * axes
    if automatic not in (b"SAME_UPPER", b"SAME_LOWER"):
        raise Left("auto_pad is not known")
    sizes = graph.dims(node.input[0])
    pads = []
    for axis in range(axes):
        size = sizes[2 + axis] if sizes and len(sizes) == 2 + axes else None
        if strides[axis] == 1:
            total = spans[axis] - 1
        elif isinstance(size, int):
            total = max((-(-size // strides[axis]) - 1) * strides[axis] + spans[axis] - size, 0)
        else:
            raise Left("auto_pad with a stride, and the size of the map is not known")
        small, large = total // 2, total - total // 2
        pads.append((small, large) if automatic == b"SAME_UPPER" else (large, small))
    return pads


def _weights(graph, node):
    """The weight in double and its element type."""
    if len(node.input) < 2 or len(node.output) != 1:
        raise Left("not a Conv of two or three inputs")
    producer = graph.producer.get(node.input[1])
    if is_op(producer, "DequantizeLinear") or is_op(graph.producer.get(node.input[0]), "DequantizeLinear"):
        raise Left("quantised (QDQ): left to the runtime's own int8")
    for use in graph.uses.get(node.output[0], []):
        if is_op(use, "QuantizeLinear"):
            raise Left("quantised (QDQ): left to the runtime's own int8")
    try:
        weight = graph.constant(node.input[1])
    except ValueError as error:
        raise Left(f"the weight cannot be read: {error}") from error
    if weight is None:
        raise Left("the weight is no constant")
    if weight.dtype.name not in ("float32", "float16", "bfloat16"):
        raise Left(f"the type is {weight.dtype.name}: not float32, float16 or bfloat16")
    element = weight.dtype.name
    found = graph.element(node.input[0])
    if found is not None and found != element:
        raise Left(f"the input is {found}, the weight {element}")
    return weight.astype(np.float64), element


def read_conv(graph, node):
    """A depthwise ``Conv``. Left says why another is none."""
    values = attributes(node)
    group = values.get("group", 1)
    if group == 1:
        raise Left("dense: group is 1")
    weight, element = _weights(graph, node)
    axes = weight.ndim - 2
    if axes not in (1, 2):
        raise Left(f"{axes} spatial dimensions: not 1 or 2")
    outputs = weight.shape[0]
    if weight.size == 0:
        raise Left("a size of the weight is 0")
    if weight.shape[1] != 1 or not isinstance(group, int) or group < 1 or outputs % group:
        raise Left(f"group is {group}, not the number of input channels")
    if outputs // group > 4:
        raise Left(f"{outputs // group} outputs a channel: not 1 to 4")
    sizes = graph.dims(node.input[0])
    if sizes is not None and (len(sizes) != axes + 2 or sizes[1] not in (None, group) and isinstance(sizes[1], int)):
        raise Left("the input's sizes do not fit the weight")
    if sizes is not None and 0 in sizes:
        raise Left("a size of the input is 0")
    kernel = list(weight.shape[2:])
    if _integers(values, "kernel_shape", axes, 0) not in ([0] * axes, kernel):
        raise Left("kernel_shape is not the weight's")
    strides, dilations = _integers(values, "strides", axes, 1), _integers(values, "dilations", axes, 1)
    if min(strides) < 1 or max(strides) > 16:
        raise Left(f"strides are {strides}: not 1 to 16")
    if min(dilations) < 1 or max(dilations) > 64:
        raise Left(f"dilations are {dilations}: not 1 to 64")
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel)]
    pads = _pads(graph, node, values, axes, spans, strides)
    if axes == 1:
        weight, kernel = weight[:, :, None, :], [1] + kernel
        strides, dilations, spans, pads = [1] + strides, [1] + dilations, [1] + spans, [(0, 0)] + pads
    if min(min(p) for p in pads) < 0:
        raise Left("a pad is negative")
    if max(max(p) for p in pads) > 1023:
        raise Left("a pad is above 1023")
    if max(kernel) > (127 if min(kernel) == 1 else 63) or max(spans) > 1024:
        raise Left(f"the kernel is {kernel[0]}x{kernel[1]}: not up to 63x63, or 127x1")
    if sizes is not None:
        for axis in range(axes):
            size = sizes[2 + axis]
            if isinstance(size, int) and size + sum(pads[axis + 2 - axes]) < spans[axis + 2 - axes]:
                raise Left("the kernel is larger than the padded input")
    bias = np.zeros(outputs)
    if len(node.input) > 2 and node.input[2]:
        found = graph.floats(node.input[2])
        if found is None or found.shape != (outputs,):
            raise Left("the bias is no constant of a value for each output")
        bias = found
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise Left("a weight is not finite")
    return Linear(
        node.input[0], node.output[0], group, outputs // group, axes + 2, element, tuple(strides),
        (pads[0][0], pads[1][0], pads[0][1], pads[1][1]), [Branch(weight, tuple(dilations))], bias, [node],
    )  # fmt: skip


def norm_factors(graph, node):
    """(factor, shift) of a BatchNormalization in evaluation form with constants, or None."""
    values = attributes(node)
    if values.get("training_mode", 0) or values.get("spatial", 1) != 1 or len(node.input) != 5:
        return None
    if len([name for name in node.output if name]) != 1:
        return None
    constants = [graph.floats(name) for name in node.input[1:]]
    if any(c is None or c.ndim != 1 or c.shape != constants[0].shape for c in constants):
        return None
    scale, shift, mean, variance = constants
    epsilon = values.get("epsilon", 1e-5)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
        shift = shift - mean * factor
    return (factor, shift) if np.isfinite(factor).all() and np.isfinite(shift).all() else None


def channel_values(constant, outputs, rank):
    """A constant that is the same all over a channel's map, as [outputs]; None where it is not."""
    if constant is None or constant.ndim > rank or not np.isfinite(constant).all():
        return None
    sizes = (1,) * (rank - constant.ndim) + constant.shape
    if sizes[1] not in (1, outputs) or any(size != 1 for i, size in enumerate(sizes) if i != 1):
        return None
    return np.broadcast_to(constant.reshape(-1), (outputs,))


def scaled(linear, factor, shift, node):
    """The form behind ``factor * y + shift``."""
    if factor.shape != linear.bias.shape:
        return None
    branches = [Branch(b.weight * factor[:, None, None, None], b.dilation) for b in linear.branches]
    bias = linear.bias * factor + shift
    # What fp32 cannot hold must not be folded into it.
    limit = np.finfo(np.float32).max
    if not all(np.abs(b.weight).max() <= limit for b in branches) or not np.abs(bias).max() <= limit:
        return None
    return Linear(
        linear.source, node.output[0], linear.channels, linear.multiplier, linear.rank, linear.element, linear.strides,
        linear.pads, branches, bias, linear.nodes + [node],
    )  # fmt: skip


def merged(a, b, node):
    """The sum of two forms, or None where they are not centred on each other."""
    if (a.source, a.channels, a.multiplier, a.strides, a.rank, a.element) != (
        b.source, b.channels, b.multiplier, b.strides, b.rank, b.element):  # fmt: skip
        return None
    branches = a.branches + b.branches
    if len(branches) > 16:
        return None
    pads = [None] * 4
    for form in (a, b):
        for axis in (0, 1):
            more = max(a.span(axis), b.span(axis)) - form.span(axis)
            if more % 2:
                return None
            for side in (axis, axis + 2):
                wanted = form.pads[side] + more // 2
                if pads[side] not in (None, wanted):
                    return None
                pads[side] = wanted
    return Linear(
        a.source, node.output[0], a.channels, a.multiplier, a.rank, a.element, a.strides, tuple(pads), branches, a.bias + b.bias,
        a.nodes + b.nodes + [node],
    )  # fmt: skip


def pointwise(like, factor, shift, nodes):
    """A factor a channel of what ``like`` reads, as a 1x1 branch; None where it has other channels."""
    if like.multiplier != 1 or factor.shape != (like.channels,):
        return None
    weight = np.array(factor)[:, None, None, None]
    return Linear(like.source, "", like.channels, 1, like.rank, like.element, (1, 1), (0, 0, 0, 0), [Branch(weight, (1, 1))],
                  np.array(shift), nodes)  # fmt: skip
