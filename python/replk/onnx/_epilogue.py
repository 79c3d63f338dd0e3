"""What follows a layer and the library does with it: an activation, a factor, a residual, another layout."""
import math
from dataclasses import dataclass, field

import numpy as np

from ._graph import attributes, is_op
from ._linear import channel_values

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


_ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    "silu": lambda x: x * _sigmoid(x),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
}
_positive = np.concatenate([np.geomspace(1e-6, 12, 120), np.linspace(0.05, 12, 97), np.geomspace(13, 1e30, 40)])
_POINTS = np.concatenate([-_positive[::-1], [0.0], _positive])
_EXPECTED = {}


def _clip(node, values, inputs):
    low = values.get("min", -np.inf) if len(inputs) < 2 or inputs[1] is None else inputs[1]
    high = values.get("max", np.inf) if len(inputs) < 3 or inputs[2] is None else inputs[2]
    return np.clip(inputs[0], low, high)


def _gelu(node, values, inputs):
    return None if values.get("approximate", b"none") != b"none" else _ACTIVATIONS["gelu"](inputs[0])


# Tanh is not here: GELU's approximation by it is another function, and left alone.
_OPERATIONS = {
    "Identity": lambda n, v, i: i[0],
    "Mul": lambda n, v, i: i[0] * i[1],
    "Div": lambda n, v, i: i[0] / i[1],
    "Add": lambda n, v, i: i[0] + i[1],
    "Sub": lambda n, v, i: i[0] - i[1],
    "Neg": lambda n, v, i: -i[0],
    "Exp": lambda n, v, i: np.exp(i[0]),
    "Erf": lambda n, v, i: _erf(i[0]),
    "Sigmoid": lambda n, v, i: _sigmoid(i[0]),
    "HardSigmoid": lambda n, v, i: np.clip(v.get("alpha", 0.2) * i[0] + v.get("beta", 0.5), 0, 1),
    "HardSwish": lambda n, v, i: _ACTIVATIONS["hardswish"](i[0]),
    "Swish": lambda n, v, i: i[0] * _sigmoid(v.get("alpha", 1.0) * i[0]),
    "Relu": lambda n, v, i: np.maximum(i[0], 0),
    "Clip": _clip,
    "Gelu": _gelu,
}


def _operation(node):
    if node.domain in ("", "ai.onnx") or node.domain == "com.microsoft" and node.op_type == "Gelu":
        return _OPERATIONS.get(node.op_type)
    return None


def _inputs(graph, node, values, rank):
    """A node's inputs at the points: computed ones, or constants of one value; None where there is another."""
    found = []
    for name in node.input:
        if name in values:
            found.append(values[name])
            continue
        if name == "":
            found.append(None)
            continue
        constant = graph.floats(name)
        if constant is None or constant.size != 1 or constant.ndim > rank:
            return None
        found.append(float(constant.reshape(())))
    return found


def _name(result, element):
    """The activation that these values at the points are."""
    # Constants such as sqrt(1/2) are rounded to the graph's type.
    bound = (2e-6 if element == "float32" else 2e-3) * np.abs(_POINTS)
    for name, function in _ACTIVATIONS.items():
        if name not in _EXPECTED:
            _EXPECTED[name] = function(_POINTS)
        if np.isfinite(result).all() and (np.abs(result - _EXPECTED[name]) <= bound).all():
            return name
    return None


def activation(graph, tensor, element, rank):
    """(name, result, nodes) of the activation that a tensor goes through and nobody else reads, or None.

    Exporters write GELU and the like in many ways. So the nodes behind the tensor are computed at points all over the line, and
    their result is compared with the activations.
    """
    values, behind = {tensor: _POINTS}, {tensor: frozenset()}
    nodes = {}
    queue = [n for n in graph.uses.get(tensor, []) if n is not None]
    with np.errstate(all="ignore"):
        while queue and len(nodes) < 10:
            queue.sort(key=lambda n: -graph.position[id(n)])
            node = queue.pop()
            if id(node) in nodes or len(node.output) != 1 or _operation(node) is None:
                continue
            inputs = _inputs(graph, node, values, rank)
            if inputs is None or not any(name in values for name in node.input):
                continue
            result = _operation(node)(node, attributes(node), inputs)
            if result is None:
                continue
            output = node.output[0]
            nodes[id(node)] = node
            values[output] = result
            behind[output] = frozenset([id(node)]).union(*(behind[name] for name in node.input if name in behind))
            name = _name(result, element)
            if name and _closed(graph, tensor, behind[output], nodes, output):
                return name, output, [nodes[i] for i in behind[output]]
            queue += [n for n in graph.uses.get(output, []) if n is not None]
    return None


def _closed(graph, tensor, inside, nodes, output):
    """Whether nobody but these nodes reads the tensor, or what they make on the way."""
    between = {tensor} | {nodes[i].output[0] for i in inside} - {output}
    return all(use is not None and id(use) in inside for name in between for use in graph.uses.get(name, []))


@dataclass
class Epilogue:
    output: str
    activation: str = "none"
    scale: np.ndarray = None
    residual: str = None
    output_layout: str = "NCHW"
    nodes: list = field(default_factory=list)

    def text(self):
        words = [] if self.activation == "none" else ["+" + self.activation]
        words += [] if self.scale is None else ["+scale"]
        words += [] if self.residual is None else ["+residual"]
        return "".join(words)


def is_transpose(node, order):
    return is_op(node, "Transpose") and list(attributes(node).get("perm", [])) == order


def to_channels_last(rank):
    return [0, *range(2, rank), 1]


def to_channels_first(rank):
    return [0, rank - 1, *range(1, rank - 1)]


def absorb(graph, linear, free):
    """The epilogue of a layer. ``free(node)``: whether no other layer has taken a node."""
    found = Epilogue(linear.output)
    act = activation(graph, linear.output, linear.element, linear.rank)
    if act and all(free(node) for node in act[2]):
        found.activation, found.output = act[0], act[1]
        found.nodes += act[2]
    while True:
        node = graph.only_use(found.output)
        if node is None or not free(node):
            return found
        if is_op(node, "Mul") and found.residual is None and found.scale is None and found.output_layout == "NCHW":
            other = [name for name in node.input if name != found.output]
            values = channel_values(graph.floats(other[0]), linear.bias.size, linear.rank) if other else None
            if values is None:
                return found
            found.scale = values
        elif is_transpose(node, to_channels_last(linear.rank)) and found.output_layout == "NCHW" and found.residual is None:
            found.output_layout = "NHWC"
        elif is_op(node, "Add") and found.residual is None:
            other = [name for name in node.input if name != found.output]
            if not other or graph.constant_like(other[0]) or not graph.same_dims(other[0], found.output):
                return found
            found.residual = other[0]
        else:
            return found
        found.nodes.append(node)
        found.output = node.output[0]
