#!/usr/bin/env python3
"""replk.onnx: rewritten models against the ones they come from, in ONNX Runtime; hostile ones; the op by itself."""
import json
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from needs import needs, needs_onnxruntime_library

for package in ("onnx", "onnxruntime"):
    needs(package, "pip install onnx==1.23.2 onnxruntime==1.32.0; ./run test with REPLK_TEST_FRAMEWORKS=1 makes an environment")

needs_onnxruntime_library()

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
import onnx.reference  # noqa: E402
import replk  # noqa: E402
import replk.onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_graphs import Builder, random_model  # noqa: E402
from replk.onnx._check import difference  # noqa: E402

FUZZED = 400 if os.environ.get("REPLK_SWEEP") == "long" else 60


def session(path, threads=1, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.graph_optimization_level = level
    options.register_custom_ops_library(replk.onnx.library_path())
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Case(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.src, self.dst = self.directory / "in.onnx", self.directory / "out.onnx"

    def rewritten(self, model, bound=5e-6, feeds=None, **options):
        """The report of a model that is saved, rewritten and compared, the check's own comparison aside."""
        onnx.save(model, self.src)
        report = replk.onnx.rewrite(self.src, self.dst, check=False, **options)
        feeds = feeds or self.feeds(model)
        expected = session(self.src).run(None, feeds)
        found = session(self.dst).run(None, feeds)
        for a, b in zip(expected, found):
            self.assertLessEqual(difference(a, b), bound)
        result = onnx.load(self.dst, load_external_data=False)
        self.assertEqual(result.ir_version, model.ir_version)
        self.assertEqual(result.opset_import[0], model.opset_import[0])
        return report

    @staticmethod
    def feeds(model, batch=2, side=13):
        random = np.random.default_rng(1)
        feeds = {}
        initial = {t.name for t in model.graph.initializer}
        for value in model.graph.input:
            if value.name in initial:
                continue
            dims = value.type.tensor_type.shape.dim
            sizes = [d.dim_value or (batch if i == 0 else side) for i, d in enumerate(dims)]
            kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            feeds[value.name] = random.standard_normal(sizes).astype(kind)
        return feeds

    def operators(self):
        return [node.op_type for node in onnx.load(self.dst).graph.node]


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


class Files(Case):
    def external(self):
        b = Builder()
        onnx.save(b.model(b.conv(b.grouped(b.conv("x", 31), 1, 1), 13)), self.src, save_as_external_data=True, location="in.data",
                  size_threshold=64)  # fmt: skip
        return b

    def test_external_data_is_copied(self):
        self.external()
        expected = session(self.src).run(None, {"x": np.ones((1, 6, 13, 13), "f")})
        report = replk.onnx.rewrite(self.src, self.directory / "deeper.onnx")
        self.assertEqual(len(report.swapped), 2)
        self.assertIsNotNone(report.check)
        self.src.unlink()
        (self.directory / "in.data").unlink()
        found = session(self.directory / "deeper.onnx").run(None, {"x": np.ones((1, 6, 13, 13), "f")})
        self.assertLessEqual(difference(expected[0], found[0]), 1e-5)
        self.assertEqual(sorted(p.name for p in self.directory.iterdir()), ["deeper.onnx", "deeper.onnx.data"])

    def test_truncated_or_elsewhere(self):
        self.external()
        data = self.directory / "in.data"
        whole = data.read_bytes()
        data.write_bytes(whole[:-100])
        with self.assertRaisesRegex(replk.BadFile, "ends at byte"):
            replk.onnx.rewrite(self.src, self.dst)
        data.unlink()
        with self.assertRaisesRegex(replk.BadFile, "no file"):
            replk.onnx.rewrite(self.src, self.dst)
        with tempfile.NamedTemporaryFile() as other:
            data.symlink_to(other.name)
            other.write(whole)
            with self.assertRaisesRegex(replk.BadFile, "leads elsewhere"):
                replk.onnx.rewrite(self.src, self.dst)
        for place in ("../in.data", "/etc/passwd"):
            model = onnx.load(self.src, load_external_data=False)
            model.graph.initializer[0].external_data[0].value = place
            self.src.write_bytes(model.SerializeToString())
            with self.assertRaisesRegex(replk.BadFile, "beside the model"):
                replk.onnx.rewrite(self.src, self.dst)
        self.assertFalse(self.dst.exists())

    def test_no_model(self):
        with self.assertRaises(replk.NotFound):
            replk.onnx.rewrite(self.src, self.dst)
        for content in (b"", b"hello", os.urandom(4096)):
            self.src.write_bytes(content)
            with self.assertRaises(replk.BadFile):
                replk.onnx.rewrite(self.src, self.dst)
        with self.assertRaises(replk.InvalidArgument):
            replk.onnx.rewrite(self.src, self.dst, min_kernel=0)

    def test_in_place_and_the_program(self):
        b = Builder()
        onnx.save(b.model(b.relu(b.conv("x", 7)), b.conv("x", 3)), self.src)
        command = [sys.executable, "-m", "replk.onnx", str(self.src), str(self.src), "--json"]
        report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        self.assertEqual(report["swapped"], 1)
        self.assertEqual([n["action"] for n in report["nodes"]], ["swapped", "left"])
        self.assertLessEqual(max(report["check"]["outputs"].values()), 1e-5)
        text = str(replk.onnx.rewrite(self.src, self.dst))
        self.assertIn("0 of 1 convolutions swapped", text)
        failed = subprocess.run([*command[:4], "none.onnx", "out.onnx"][:3] + ["none.onnx", "out.onnx"], capture_output=True, text=True)
        self.assertEqual((failed.returncode, failed.stderr), (1, "error: none.onnx: no such file\n"))

    def test_a_wrong_result_is_noticed(self):
        """The check itself: a library of another function, which a changed weight stands for."""
        b = Builder()
        onnx.save(b.model(b.conv("x", 7)), self.src)
        replk.onnx.rewrite(self.src, self.dst)
        other = onnx.load(self.dst)
        weight = numpy_helper.to_array(other.graph.initializer[2]) * np.float32(1.01)
        other.graph.initializer[2].CopyFrom(numpy_helper.from_array(weight, other.graph.initializer[2].name))
        onnx.save(other, self.dst)
        from replk.onnx._check import compare

        with self.assertRaisesRegex(replk.Error, "differs by"):
            compare(self.src, self.dst, replk.onnx.library_path(), False)


class Sessions(Case):
    """The op in ONNX Runtime: sizes, threads, optimisation levels, sessions beside each other."""

    def prepare(self):
        b = Builder(channels=20, sides=("h", "w"))
        y = b.op("Add", "x", b.gelu(b.op("Add", b.conv("x", 13), b.conv("x", 5))))
        model = b.model(b.relu(b.grouped(b.conv(y, 7, stride=(2, 2)), 1, 1)))
        onnx.save(model, self.src)
        self.assertEqual(len(replk.onnx.rewrite(self.src, self.dst).swapped), 2)

    def test_levels_threads_and_sizes(self):
        self.prepare()
        random = np.random.default_rng(5)
        reference = session(self.src)
        levels = ort.GraphOptimizationLevel
        for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_EXTENDED, levels.ORT_ENABLE_ALL):
            for threads in (1, 2):
                made = session(self.dst, threads, level)
                for n, h, w in ((1, 14, 14), (3, 9, 30), (2, 57, 56), (1, 1, 1), (1, 14, 14)):
                    x = random.standard_normal((n, 20, h, w)).astype("f")
                    a, b = (s.run(None, {"x": x})[0] for s in (reference, made))
                    self.assertLessEqual(difference(a, b), 5e-6)

    def test_sessions_beside_each_other(self):
        self.prepare()
        random = np.random.default_rng(6)
        made = [session(self.dst, threads) for threads in (1, 2)]
        cases = []
        for side in (12, 20, 33):
            x = random.standard_normal((2, 20, side, side)).astype("f")
            cases.append((x, session(self.src).run(None, {"x": x})[0]))
        worst = []

        def work(which):
            for i in range(20):
                x, expected = cases[(i + which) % 3]
                worst.append(difference(expected, made[which % 2].run(None, {"x": x})[0]))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(len(worst), 80)
        self.assertLessEqual(max(worst), 5e-6)

    def test_the_same_bits_on_any_thread(self):
        self.prepare()
        x = np.random.default_rng(7).standard_normal((1, 20, 28, 28)).astype("f")
        one = session(self.dst, 1)
        self.assertTrue(np.array_equal(one.run(None, {"x": x})[0], one.run(None, {"x": x})[0]))

    def test_empty_batch_and_wrong_sizes(self):
        b = Builder(sides=("h", "w"))
        onnx.save(b.model(b.conv("x", 7, pads=(0, 0, 0, 0))), self.src)
        replk.onnx.rewrite(self.src, self.dst)
        made = session(self.dst)
        self.assertEqual(made.run(None, {"x": np.zeros((0, 6, 9, 9), "f")})[0].shape, (0, 6, 3, 3))
        with self.assertRaisesRegex(Exception, "smaller than the kernel"):
            made.run(None, {"x": np.zeros((1, 6, 6, 9), "f")})

    def test_nodes_that_nobody_should_write(self):
        b = Builder()
        onnx.save(b.model(b.conv("x", 7)), self.src)
        replk.onnx.rewrite(self.src, self.dst)
        good = onnx.load(self.dst)
        for name, value, message in (
            ("activation", "tanh", "activation is 'tanh'"), ("pads", [0, 0], "pads has 2 values"), ("strides", [0, 1], "stride is 0"),
            ("dilations", [1, 65], "dilation is 65"), ("channels", [7, 1], r"weight must be \[7"), ("output_layout", "NWHC", "NWHC"),
            ("numerics", None, "numerics"),
        ):  # fmt: skip
            bad = onnx.ModelProto()
            bad.CopyFrom(good)
            node = bad.graph.node[0]
            kept = [a for a in node.attribute if a.name != name]
            del node.attribute[:]
            node.attribute.extend(kept + ([] if value is None else [helper.make_attribute(name, value)]))
            onnx.save(bad, self.dst)
            with self.subTest(name), self.assertRaisesRegex(Exception, message):
                session(self.dst)


if __name__ == "__main__":
    unittest.main()
