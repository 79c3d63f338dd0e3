"""An ONNX graph with what a rewriter asks of it: which node makes and which read a tensor, what is constant, what sizes are known."""
import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..errors import BadFile

_FLOATS = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
}


def subgraphs(node):
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def outer_uses(graph):
    """Names that the nodes of a subgraph read, its own ones too."""
    for node in graph.node:
        yield from node.input
        for inner in subgraphs(node):
            yield from outer_uses(inner)
    for output in graph.output:
        yield output.name


def attributes(node):
    """A node's attributes by name. One of a kind that is not known has no value."""
    found = {}
    for attribute in node.attribute:
        try:
            found[attribute.name] = helper.get_attribute_value(attribute)
        except (ValueError, TypeError):
            found[attribute.name] = None
    return found


class Graph:
    """Indexes of a model's main graph, which stays as it is. ``read``: a TensorProto's array, or ValueError."""

    def __init__(self, model, read):
        self.graph = model.graph
        self.read = read
        self.producer, self.uses, self.position = {}, {}, {}
        for at, node in enumerate(self.graph.node):
            self.position[id(node)] = at
            for name in node.output:
                if name:
                    if name in self.producer:
                        raise BadFile(f"tensor '{name}' has two producers")
                    self.producer[name] = node
            for name in node.input:
                self.uses.setdefault(name, []).append(node)
            for inner in subgraphs(node):
                for name in outer_uses(inner):
                    self.uses.setdefault(name, []).append(None)
        for output in self.graph.output:
            self.uses.setdefault(output.name, []).append(None)
        inputs = {value.name for value in self.graph.input}
        # From version 4 of the format on, a caller may give other values for an initialiser that is an input too.
        overridable = inputs if model.ir_version >= 4 else set()
        self.initializers = {t.name: t for t in self.graph.initializer if t.name not in overridable}
        self._info = self._inferred(model)

    @staticmethod
    def _inferred(model):
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        for tensor in bare.graph.initializer:
            # Inference needs values of small tensors alone (shapes), and fails beyond 2 GB.
            if np.prod(tensor.dims, dtype=float) > 1024:
                for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                    tensor.ClearField(field)
        try:
            bare = onnx.shape_inference.infer_shapes(bare, data_prop=True)
        except Exception:  # what the model says itself remains (the inference raises whatever C++ threw)
            pass
        values = list(bare.graph.value_info) + list(bare.graph.input) + list(bare.graph.output)
        return {value.name: value for value in values}

    def info(self, name):
        """The ValueInfoProto of a tensor, or None."""
        return self._info.get(name)

    def dims(self, name):
        """Sizes of a tensor: numbers, names, or None for one that is not known; None where nothing is."""
        info = self._info.get(name)
        if info is None or not info.type.tensor_type.HasField("shape"):
            return None
        return [
            d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in info.type.tensor_type.shape.dim
        ]

    def same_dims(self, a, b):
        """Whether two tensors have the same sizes, whatever these are."""
        sizes = self.dims(a), self.dims(b)
        return None not in sizes and sizes[0] == sizes[1] and None not in sizes[0]

    def constant(self, name):
        """A constant tensor's array, or None. ValueError where it cannot be read."""
        if name in self.initializers:
            return self.read(self.initializers[name])
        node = self.producer.get(name)
        for _ in range(8):  # a file may hold a circle of them
            if not is_op(node, "Identity"):
                break
            if node.input[0] in self.initializers:
                return self.read(self.initializers[node.input[0]])
            node = self.producer.get(node.input[0])
        if not is_op(node, "Constant"):
            return None
        values = attributes(node)
        if isinstance(values.get("value"), onnx.TensorProto):
            return self.read(values["value"])
        kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
        for key, kind in kinds.items():
            if values.get(key) is not None:
                return np.asarray(values[key], kind)
        return None

    def constant_like(self, name):
        """Whether a tensor is constant, as far as its producer says."""
        return name in self.initializers or is_op(self.producer.get(name), "Constant")

    def floats(self, name):
        """A constant of a floating type in double, or None."""
        try:
            value = self.constant(name)
        except ValueError:
            return None
        if value is None or not (value.dtype.kind == "f" or value.dtype.name in ("bfloat16", "float16")):
            return None
        return value.astype(np.float64)

    def element(self, name):
        """'float32', 'float16' or 'bfloat16'; 'another type'; None where it is not known."""
        info = self._info.get(name)
        kind = info.type.tensor_type.elem_type if info is not None else 0
        return _FLOATS.get(kind, "another type") if kind else None

    def only_use(self, name):
        """The node that reads a tensor, where that is one node, once."""
        uses = self.uses.get(name, [])
        return uses[0] if len(uses) == 1 else None

    def names(self):
        """All names that are taken."""
        taken = set(self.uses) | set(self.producer) | {t.name for t in self.graph.initializer}
        taken |= {v.name for v in self.graph.input} | {n.name for n in self.graph.node}
        return taken


def is_op(node, *kinds):
    """Whether a node is one of ONNX's own operators."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in kinds


def to_tensor(array, name):
    return numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
