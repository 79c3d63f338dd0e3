#!/usr/bin/env python3
"""replk.onnx: rewritten models against the ones they come from, in ONNX Runtime; what stays; random graphs."""
import os
import unittest

from onnx_case import Case, session  # first: it skips where something is missing

import numpy as np
import onnx
import onnx.reference
import onnxruntime as ort
import replk
import replk.onnx
from onnx import TensorProto, helper
from onnx_graphs import Builder, random_model
from replk.onnx._check import difference

FUZZED = 400 if os.environ.get("REPLK_SWEEP") == "long" else 60


class Patterns(Case):
    """What is taken in: after each, no other node is left."""

    def one(self, build, nodes=("Depthwise",), bound=5e-6, **sizes):
        b = Builder(**sizes)
        report = self.rewritten(b.model(build(b)), bound)
        self.assertEqual(self.operators(), list(nodes))
        self.assertEqual(len(report.swapped), 1)
        return report

    def test_batch_norm_and_factors(self):
        self.one(lambda b: b.norm(b.conv("x", 7)))
        self.one(lambda b: b.op("Mul", b.norm(b.conv("x", 5, bias=False)), b.channels()))
        self.one(lambda b: b.op("Sub", b.channels(), b.op("Div", b.conv("x", 5), b.constant(3.0))))

    def test_activations(self):
        for name in ("relu", "silu", "hardswish", "hardswish_sigmoid", "hardswish_clip", "gelu_div", "gelu_mul", "gelu_half_first",
                     "gelu", "silu_exp"):  # fmt: skip
            with self.subTest(name):
                report = self.one(lambda b, name=name: getattr(b, name)(b.conv("x", 7)))
                self.assertIn("+" + name.split("_")[0], report.swapped[0].layer)

    def test_what_is_no_activation_of_ours_stays(self):
        for name in ("gelu_tanh", "relu6", "quick_gelu", "leaky"):
            with self.subTest(name):
                b = Builder()
                self.rewritten(b.model(getattr(b, name)(b.conv("x", 7))))
                self.assertGreater(len(self.operators()), 1)

    def test_a_constant_that_adds_a_dimension(self):
        b = Builder()
        half = b.array(np.full((1, 1, 1, 1, 1), 0.5))
        x = b.conv("x", 7)
        erf = b.op("Add", b.op("Erf", b.op("Mul", x, b.constant(0.5**0.5))), b.constant(1.0))
        self.rewritten(b.model(b.op("Mul", b.op("Mul", x, half), erf)))
        self.assertEqual(len(self.operators()), 6)

    def test_branches(self):
        self.one(lambda b: b.op("Add", b.norm(b.conv("x", 13)), b.norm(b.conv("x", 5))))
        self.one(lambda b: b.relu(b.op("Add", b.op("Add", b.conv("x", (11, 5)), b.conv("x", (5, 11))), b.conv("x", 5))))
        self.one(lambda b: b.op("Add", b.conv("x", 13), b.conv("x", 3, dilation=4)))
        self.one(lambda b: b.op("Add", b.norm("x"), b.op("Add", b.norm(b.conv("x", 7)), b.norm(b.conv("x", 1)))))

    def test_branches_that_do_not_lie_on_each_other(self):
        b = Builder()
        y = b.op("Add", b.conv("x", 5, pads=(2, 2, 2, 2)), b.conv("x", 5, pads=(1, 1, 3, 3)))
        self.rewritten(b.model(y))
        self.assertIn("DepthwiseAdd", self.operators())

    def test_residual(self):
        self.one(lambda b: b.op("Add", b.gelu(b.conv("x", 7)), "x"), ["DepthwiseAdd"])
        self.one(lambda b: b.op("Add", "x", b.conv("x", 7)))  # a tap more
        self.one(lambda b: b.op("Add", b.input("r"), b.conv("x", 7)), ["DepthwiseAdd"])
        self.one(lambda b: b.op("Add", "x", b.op("Mul", b.gelu(b.conv("x", 7)), b.channels())), ["DepthwiseAdd"])

    def test_residual_that_is_broadcast_is_none(self):
        b = Builder()
        y = b.op("Add", b.input("r", (1, 6, 1, 13)), b.conv("x", 7))
        self.rewritten(b.model(y))
        self.assertEqual(self.operators(), ["Depthwise", "Add"])

    def test_layouts(self):
        self.one(lambda b: b.op("Transpose", b.conv("x", 7), perm=[0, 2, 3, 1]))
        self.one(lambda b: b.conv(b.op("Transpose", b.input("z", ("n", 12, 11, 6)), perm=[0, 3, 1, 2]), 7))
        self.one(lambda b: b.op("Add", b.input("r", ("n", 13, 13, 6)),
                                b.op("Transpose", b.relu(b.conv("x", 7)), perm=[0, 2, 3, 1])), ["DepthwiseAdd"])  # fmt: skip

    def test_pads_strides_multiplier_and_one_dimension(self):
        self.one(lambda b: b.conv("x", (7, 5), pads=(0, 3, 2, 1), stride=(2, 3)))
        self.one(lambda b: b.conv(b.pad("x", (1, 2, 0, 3)), 5, pads=(0, 0, 0, 0)))
        for automatic in ("SAME_UPPER", "SAME_LOWER", "VALID"):
            self.one(lambda b, a=automatic: b.conv("x", 6, auto_pad=a))
            self.one(lambda b, a=automatic: b.conv(b.input("z", (1, 6, 15, 16)), 5, auto_pad=a, stride=(2, 2)))
        self.one(lambda b: b.conv("x", 7, stride=(2, 2), multiplier=2))
        self.one(lambda b: b.relu(b.conv1d(b.input("z", ("n", 6, 40)), 71)))
        self.one(lambda b: b.conv("x", (1, 11)))

    def test_types(self):
        for kind, bound in ((TensorProto.FLOAT16, 2e-3), (TensorProto.BFLOAT16, 1e-2)):
            b = Builder(kind=kind)
            y = b.op("Add", b.input("r"), b.gelu_div(b.norm(b.conv("x", 7))))
            onnx.save(b.model(y), self.src)
            replk.onnx.rewrite(self.src, self.dst, check=False)
            self.assertEqual(self.operators(), ["DepthwiseAdd"])
            feeds = self.feeds(b.model(y))
            expected = onnx.reference.ReferenceEvaluator(b.wide(b.model(y))).run(None, {k: v.astype("f") for k, v in feeds.items()})
            found = self.run_values(feeds)
            self.assertLessEqual(difference(expected[0], found), bound)

    def run_values(self, feeds):
        values = {}
        for name, array in feeds.items():
            if array.dtype.kind == "f":
                values[name] = ort.OrtValue.ortvalue_from_numpy(array)
            else:
                values[name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), TensorProto.BFLOAT16)
        made = session(self.dst)
        binding = made.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        output = made.get_outputs()[0]
        half = output.type == "tensor(float16)"
        result = np.zeros((2, 6, 13, 13), np.float16 if half else np.uint16)
        bound = (ort.OrtValue.ortvalue_from_numpy(result) if half
                 else ort.OrtValue.ortvalue_from_numpy_with_onnx_type(result, TensorProto.BFLOAT16))  # fmt: skip
        binding.bind_ortvalue_output(output.name, bound)
        made.run_with_iobinding(binding)
        return result.astype("f") if half else (result.astype(np.uint32) << 16).view(np.float32)


class LeftAlone(Case):
    """Models in which something must stay; each says why."""

    def left(self, model, reason, bound=0.0, runs=True):
        if runs:
            report = self.rewritten(model, bound)
        else:
            onnx.save(model, self.src)
            report = replk.onnx.rewrite(self.src, self.dst)
        self.assertEqual(report.swapped, [])
        self.assertIn(reason, " ".join(entry.reason for entry in report.entries))

    def test_weights(self):
        b = Builder()
        self.left(b.model(b.conv("x", 7, weight=b.input("w", (6, 1, 7, 7)))), "no constant")
        b = Builder()
        model = b.model(b.conv("x", 7))  # an initialiser that callers may replace
        weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
        model.graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
        self.left(model, "no constant")

    def test_groups_and_sizes(self):
        b = Builder()
        self.left(b.model(b.grouped("x", 7, 3)), "group is 3")
        b = Builder()
        self.left(b.model(b.grouped("x", 7, 1)), "dense")
        b = Builder()
        self.left(b.model(b.conv("x", 3)), "below 5")
        b = Builder()
        self.left(b.model(b.conv("x", 64)), "not up to 63x63", runs=False)
        b = Builder()
        self.left(b.model(b.conv("x", 7, pads=(-1, 3, 3, 3))), "negative", runs=False)
        b = Builder()
        self.left(b.model(b.conv(b.input("z", (1, 6, 0, 9)), 7)), "a size of the input is 0", runs=False)

    def test_quantised(self):
        b = Builder()
        weight = b.op("DequantizeLinear", b.array(np.ones((6, 1, 7, 7), np.int8)), b.constant(0.1))
        self.left(b.model(b.quantised(b.conv(b.quantised("x"), 7, weight=weight))), "quantised")

    def test_double(self):
        b = Builder(kind=TensorProto.DOUBLE)
        self.left(b.model(b.conv("x", 7)), "float64", runs=False)  # ONNX Runtime has no such Conv

    def test_what_others_read_stays(self):
        b = Builder()
        y = b.conv("x", 7)
        self.rewritten(b.model(b.relu(b.norm(y)), y))
        self.assertEqual(self.operators(), ["Depthwise", "BatchNormalization", "Relu"])
        b = Builder()
        y = b.conv("x", 7)
        self.rewritten(b.model(b.op("Add", b.relu(y), b.op("Sigmoid", y))))
        self.assertEqual(self.operators()[0], "Depthwise")
        b = Builder()
        y = b.norm(b.conv("x", 7))
        branch = helper.make_graph([helper.make_node("Relu", [y], ["t"])], "then", [], [helper.make_tensor_value_info("t", 1, None)])
        other = helper.make_graph([helper.make_node("Neg", [y], ["e"])], "else", [], [helper.make_tensor_value_info("e", 1, None)])
        b.nodes.append(helper.make_node("If", [b.array(np.array(True))], ["chosen"], then_branch=branch, else_branch=other))
        self.rewritten(b.model("chosen"))
        self.assertEqual(self.operators()[0], "Depthwise")

    def test_two_layers_in_one_sum(self):
        b = Builder()
        y = b.op("Add", b.relu(b.conv("x", 7)), b.relu(b.conv(b.input("r"), 5)))
        self.rewritten(b.model(y))
        self.assertEqual(sorted(self.operators()), ["Depthwise", "DepthwiseAdd"])

    def test_old_format(self):
        b = Builder(opset=8)
        model = b.model(b.relu(b.norm(b.conv("x", 7))))
        model.ir_version = 3
        for t in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, t.dims))
        self.rewritten(model)
        self.assertEqual(self.operators(), ["Depthwise"])


class Fuzz(Case):
    def test_random_graphs(self):
        swapped = 0
        for seed in range(FUZZED):
            with self.subTest(seed=seed):
                swapped += len(self.rewritten(random_model(seed), 1e-5).swapped)
        self.assertGreater(swapped, FUZZED)

    def test_broken_files(self):
        """Bytes of a model changed at random: an error of ours or a report, nothing else."""
        b = Builder()
        whole = bytearray(b.model(b.relu(b.norm(b.conv("x", 7)))).SerializeToString())
        random = np.random.default_rng(3)
        for _ in range(3 * FUZZED):
            broken = bytearray(whole)
            for at in random.integers(0, len(broken), random.integers(1, 6)):
                broken[at] = random.integers(256)
            self.src.write_bytes(broken[: random.integers(1, len(broken))] if random.integers(4) == 0 else broken)
            try:
                replk.onnx.rewrite(self.src, self.dst, check=False)
            except replk.Error:
                pass


if __name__ == "__main__":
    unittest.main()
