"""Small ONNX graphs for onnx_test.py, written as exporters write them."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Nodes are added by methods that return the name of their result. ``x`` is the first input, [n, channels, *sides]."""

    def __init__(self, channels=6, sides=(13, 13), kind=TensorProto.FLOAT, opset=20, seed=0):
        self.c, self.sides, self.kind, self.opset = channels, sides, kind, opset
        self.random = np.random.default_rng(seed)
        self.nodes, self.inits, self.inputs = [], [], {}
        self.widths = {"x": channels}
        self.input("x")

    def input(self, name, sizes=None):
        self.inputs[name] = helper.make_tensor_value_info(name, self.kind, sizes or ("n", self.c, *self.sides))
        return name

    def array(self, values):
        name = f"c{len(self.inits)}"
        values = np.asarray(values)
        if values.dtype == np.float64 or values.dtype == np.float32:
            values = values.astype(helper.tensor_dtype_to_np_dtype(self.kind))
        self.inits.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, value):
        return self.array(np.array(value))

    def channels(self):
        return self.array(self.random.uniform(0.5, 2, (1, self.c, 1, 1)))

    def op(self, kind, *inputs, **attributes):
        name = f"t{len(self.nodes)}"
        domain = attributes.pop("domain", "")
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{kind}{len(self.nodes)}", domain=domain, **attributes))
        return name

    def model(self, *outputs):
        graph = helper.make_graph(
            self.nodes, "g", list(self.inputs.values()),
            [helper.make_tensor_value_info(name, self.kind, None) for name in outputs], self.inits,
        )  # fmt: skip
        used = {name for node in self.nodes for name in node.input}
        for value in list(graph.input):
            if value.name not in used:
                graph.input.remove(value)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)

    @staticmethod
    def wide(model):
        """The same with every narrow number widened."""
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        for i, t in enumerate(copy.graph.initializer):
            copy.graph.initializer[i].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype("f"), t.name))
        for value in [*copy.graph.input, *copy.graph.output]:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
        return copy

    # ---- Layers ----
    def conv(self, x, kernel, stride=(1, 1), pads=None, dilation=1, bias=True, weight=None, multiplier=1, auto_pad=None):
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        more = {} if stride == (1, 1) else {"strides": stride}
        if auto_pad:
            more["auto_pad"] = auto_pad
        else:
            more["pads"] = pads or (dilation * (kh - 1) // 2, dilation * (kw - 1) // 2) * 2
        if dilation > 1:
            more["dilations"] = (dilation, dilation)
        outputs = self.c * multiplier
        weight = weight or self.array(self.random.standard_normal((outputs, 1, kh, kw)) / (kh * kw) ** 0.5)
        return self.op("Conv", x, weight, *([self.array(self.random.standard_normal(outputs))] if bias else []), group=self.c, **more)

    def conv1d(self, x, kernel):
        weight = self.array(self.random.standard_normal((self.c, 1, kernel)))
        return self.op("Conv", x, weight, group=self.c, pads=(kernel // 2, kernel // 2))

    def grouped(self, x, kernel, groups):
        weight = self.array(self.random.standard_normal((self.c, self.c // groups, kernel, kernel)) / (self.c // groups) ** 0.5 / kernel)
        return self.op("Conv", x, weight, group=groups, pads=(kernel // 2,) * 4)

    def norm(self, x):
        r, c = self.random, self.c
        return self.op("BatchNormalization", x, self.array(r.uniform(0.5, 2, c)), self.array(r.standard_normal(c)),
                       self.array(r.standard_normal(c)), self.array(r.uniform(0.5, 2, c)), epsilon=1e-3)  # fmt: skip

    def pad(self, x, pads):
        return self.op("Pad", x, self.array(np.array([0, 0, *pads[:2], 0, 0, *pads[2:]])), self.constant(0.0))

    def quantised(self, x):
        scale, zero = self.constant(0.05), self.array(np.array(3, np.int8))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, scale, zero), scale, zero)

    # ---- Activations, as exporters and converters write them ----
    def relu(self, x):
        return self.op("Relu", x)

    def silu(self, x):
        return self.op("Mul", x, self.op("Sigmoid", x))

    def silu_exp(self, x):
        return self.op("Div", x, self.op("Add", self.constant(1.0), self.op("Exp", self.op("Neg", x))))

    def hardswish(self, x):
        return self.op("HardSwish", x)

    def hardswish_sigmoid(self, x):
        return self.op("Mul", self.op("HardSigmoid", x, alpha=1 / 6, beta=0.5), x)

    def hardswish_clip(self, x):
        three = self.op("Clip", self.op("Add", x, self.constant(3.0)), self.constant(0.0), self.constant(6.0))
        return self.op("Div", self.op("Mul", x, three), self.constant(6.0))

    def gelu(self, x):
        return self.op("Gelu", x)

    def gelu_div(self, x):
        erf = self.op("Erf", self.op("Div", x, self.constant(2**0.5)))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.constant(1.0))), self.constant(0.5))

    def gelu_mul(self, x):
        erf = self.op("Erf", self.op("Mul", self.constant(0.5**0.5), x))
        return self.op("Mul", self.constant(0.5), self.op("Mul", self.op("Add", self.constant(1.0), erf), x))

    def gelu_half_first(self, x):
        half = self.op("Mul", x, self.constant(0.5))
        erf = self.op("Erf", self.op("Mul", x, self.constant(0.5**0.5)))
        return self.op("Mul", half, self.op("Add", erf, self.constant(1.0)))

    def gelu_tanh(self, x):
        return self.op("Gelu", x, approximate="tanh")

    def relu6(self, x):
        return self.op("Clip", x, self.constant(0.0), self.constant(6.0))

    def quick_gelu(self, x):
        return self.op("Mul", x, self.op("Sigmoid", self.op("Mul", x, self.constant(1.702))))

    def leaky(self, x):
        return self.op("LeakyRelu", x, alpha=0.1)


ACTIVATIONS = ("relu", "silu", "hardswish", "hardswish_clip", "gelu", "gelu_div", "gelu_mul", "gelu_tanh", "relu6", "quick_gelu")


def random_model(seed):
    """A chain of steps that keep the sizes, with branches, shared tensors and odd outputs."""
    b = Builder(seed=seed, channels=int(np.random.default_rng(seed).choice([1, 4, 6, 17])))
    r = b.random
    tensors = ["x"]

    def step(x):
        kind = r.integers(12)
        if kind < 4:
            return b.conv(x, int(r.choice([3, 5, 7, 13])), dilation=int(r.choice([1, 1, 2])), bias=bool(r.integers(2)))
        if kind < 6:
            return b.norm(x)
        if kind < 8:
            return getattr(b, str(r.choice(ACTIVATIONS)))(x)
        if kind == 8:
            return b.op("Mul", x, b.channels() if r.integers(2) else b.constant(float(r.uniform(0.5, 1.5))))
        if kind == 9:
            return b.op(str(r.choice(["Add", "Sub"])), *r.permutation([x, b.channels()]).tolist())
        if kind == 10:
            return b.grouped(x, int(r.choice([1, 3])), 1)
        return b.op("Transpose", b.op("Neg", b.op("Transpose", x, perm=[0, 2, 3, 1])), perm=[0, 3, 1, 2])

    for _ in range(int(r.integers(3, 12))):
        near = tensors[-1] if r.integers(4) else str(r.choice(tensors))
        if r.integers(4) == 0:
            y = b.op("Add", step(near), step(near) if r.integers(2) else str(r.choice(tensors)))
        else:
            y = step(near)
        tensors.append(y)
    # What grows without end says little about errors.
    outputs = [b.op("Tanh", tensors[-1])] + ([str(r.choice(tensors[1:]))] if r.integers(3) == 0 else [])
    return b.model(*dict.fromkeys(outputs))
