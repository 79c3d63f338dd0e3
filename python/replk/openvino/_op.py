"""The op in Python: for OpenVINO a node as any, which calls the C API with the runtime's own memory."""
import threading
from collections import OrderedDict

import numpy as np
import openvino
from openvino.frontend.onnx import ConversionExtension

from ..depthwise import Depthwise

_STORAGE = {"f32": "", "bf16": "bf16", "f16": "fp16"}
_NAMES = ("channels", "strides", "pads", "dilations", "activation", "input_layout", "output_layout", "numerics")
_KEPT = 16  # plans of sizes used last


def _bits(tensor):
    """A tensor's array. NumPy has no bfloat16, and OpenVINO calls it float16."""
    return tensor.data.view(np.uint16) if tensor.element_type == openvino.Type.bf16 else tensor.data


def _wide(array):
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array.astype(np.float32)


def _round(values, out):
    if out.dtype != np.uint16:
        out[...] = values
        return
    bits = values.view(np.uint32)
    out[...] = np.where(np.isnan(values), 0x7FC0, (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def _side(size, before, after, span, stride):
    return max(0, (size + before + after - span) // stride + 1)


class _Layer:
    """Constants of a node, and a plan for each size of the map."""

    def __init__(self, settings, constants):
        self.s = settings
        bias, scale, *self.weights = (np.array(c, np.float32) for c in constants)
        self.bias = bias
        self.scale = None if (scale == 1).all() else scale
        self._plans, self._lock = OrderedDict(), threading.Lock()

    def _text(self, height, width, storage, residual):
        s = self.s
        (c, multiplier), (top, left, bottom, right) = s["channels"], s["pads"]
        kernels = []
        for i, w in enumerate(self.weights):
            rows, columns = s["dilations"][2 * i : 2 * i + 2]
            kernels.append(f"{w.shape[2]}x{w.shape[3]}" + (f"d{rows}x{columns}" if (rows, columns) != (1, 1) else ""))
        order = {"NCHW": "nchw", "NHWC": "nhwc"}
        layouts = [order[s["input_layout"]], order[s["output_layout"]]]
        layout = {("nchw", "nchw"): "nchw", ("nhwc", "nhwc"): ""}.get(tuple(layouts), ">".join(layouts))
        return (
            f"n1c{c}" + (f"x{multiplier}" if multiplier > 1 else "") + f"h{height}w{width}k{','.join(kernels)}"
            f"s{s['strides'][0]}x{s['strides'][1]}p{top}:{bottom}x{left}:{right}{layout}{storage}"
            + ("exact" if s["numerics"] == "exact" else "")
            + ("" if s["activation"] == "none" else "+" + s["activation"])
            + ("+residual" if residual else "")
        )

    def plan(self, height, width, storage, residual):
        key = height, width, storage, residual
        with self._lock:
            if key not in self._plans:
                weights = [w[:, 0] for w in self.weights]
                self._plans[key] = Depthwise(self._text(*key), weights, self.bias)
                while len(self._plans) > _KEPT:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
            return self._plans[key]


class _Op(openvino.Op):
    """Inputs: map, of DepthwiseAdd the residual, then bias, scale and weights."""

    def __init__(self, inputs=None, settings=None, add=False):
        super().__init__(self, inputs if inputs is None else None)
        self._settings, self._add, self._layer, self._lock = settings, add, None, threading.Lock()
        if inputs is not None:
            self.set_arguments(inputs)
            self.constructor_validate_and_infer_types()

    def clone_with_new_inputs(self, inputs):
        return type(self)(inputs, self._settings, self._add)

    def validate_and_infer_types(self):
        first = 4 if self._add else 3
        s, given = self._settings, self.get_input_partial_shape(0)
        rank = len(given)
        last = s["input_layout"] == "NHWC"
        sides = []
        for axis in range(2):
            if rank == 3 and axis == 0:
                continue
            side = given[rank - 2 + axis - last]
            span = max(
                s["dilations"][2 * i + axis] * (self.get_input_partial_shape(first + i)[2 + axis].get_length() - 1) + 1
                for i in range(self.get_input_size() - first)
            )
            sides.append(
                openvino.Dimension() if side.is_dynamic
                else openvino.Dimension(_side(side.get_length(), s["pads"][axis], s["pads"][axis + 2], span, s["strides"][axis]))
            )  # fmt: skip
        outputs = [openvino.Dimension(s["channels"][0] * s["channels"][1])]
        all_sides = sides + outputs if s["output_layout"] == "NHWC" else outputs + sides
        self.set_output_type(0, self.get_input_element_type(0), openvino.PartialShape([given[0], *all_sides]))

    def has_evaluate(self):
        return True

    def evaluate(self, outputs, inputs):
        s = self._settings
        with self._lock:
            if self._layer is None:
                self._layer = _Layer(s, [t.data for t in inputs[2 if self._add else 1 :]])
        layer = self._layer
        x = _bits(inputs[0])
        flat = x.ndim == 3
        if flat:
            x = x[:, None] if s["input_layout"] == "NHWC" else x[:, :, None]
        height, width = x.shape[1:3] if s["input_layout"] == "NHWC" else x.shape[2:]
        residual = _bits(inputs[1]) if self._add else None
        plan = layer.plan(height, width, _STORAGE[inputs[0].element_type.get_type_name()], residual is not None and layer.scale is None)
        shape = plan._problem.result(x.shape[0], *plan._out_sides)
        outputs[0].shape = [n for i, n in enumerate(shape) if not flat or i != (1 if s["output_layout"] == "NHWC" else 2)]
        out = _bits(outputs[0]).reshape(shape)
        if x.shape[0] == 0:
            return True
        if residual is not None:
            residual = residual.reshape(shape)
        if layer.scale is None:
            plan(x, residual, out)
        else:
            factor = layer.scale if s["output_layout"] == "NHWC" else layer.scale[:, None, None]
            y = _wide(plan(x)) * factor
            _round(y if residual is None else y + _wide(residual), out)
        return True


def extensions():
    """What a core needs to read both ops from an ONNX file."""

    def conversion(name, add):
        def convert(node):
            inputs = [node.get_input(i) for i in range(node.get_input_size())]
            values = {}
            for key in _NAMES:
                value = node.get_attribute(key)
                values[key] = value if isinstance(value, str) else tuple(int(v) for v in value)
            return _Op(inputs, values, add).outputs()

        return ConversionExtension(name, "com.replk", convert)

    return [conversion("Depthwise", False), conversion("DepthwiseAdd", True)]
