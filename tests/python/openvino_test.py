#!/usr/bin/env python3
"""replk.openvino: rewritten models in OpenVINO, by the op in Python and by the compiled one, against ONNX Runtime. And the
examples of both runtimes."""
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from needs import needs, needs_onnxruntime_library

for package in ("onnx", "onnxruntime", "openvino"):
    needs(package, "pip install onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.0; REPLK_TEST_FRAMEWORKS=1 makes an environment")
needs_onnxruntime_library()

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
import openvino as ov  # noqa: E402
import replk  # noqa: E402
import replk.onnx  # noqa: E402
import replk.openvino  # noqa: E402
from onnx import TensorProto  # noqa: E402
from onnx_graphs import Builder  # noqa: E402
from replk.onnx._check import difference  # noqa: E402

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CASES = {
    "batch norm, relu": lambda b: b.relu(b.norm(b.conv("x", 7))),
    "branches, scale, residual": lambda b: b.op(
        "Add", "x", b.op("Mul", b.gelu(b.op("Add", b.conv("x", 13), b.conv("x", 3, dilation=2))), b.channels())),
    "residual": lambda b: b.op("Add", b.input("r"), b.silu(b.conv("x", 7))),
    "strides, other layout": lambda b: b.op("Transpose", b.conv("x", (7, 5), stride=(2, 1)), perm=[0, 2, 3, 1]),
    "both channels-last": lambda b: b.op(
        "Transpose", b.conv(b.op("Transpose", b.input("z", ("n", 12, 11, 6)), perm=[0, 3, 1, 2]), 7), perm=[0, 2, 3, 1]),
    "one dimension": lambda b: b.relu(b.conv1d(b.input("z", ("n", 6, 40)), 71)),
    "multiplier, uneven pads": lambda b: b.conv("x", 7, multiplier=2, pads=(0, 3, 2, 1)),
}  # fmt: skip


class OpenVino(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.src, self.dst = Path(directory.name) / "in.onnx", Path(directory.name) / "out.onnx"

    def ways(self):
        yield "python", False
        try:
            replk.openvino.build()
        except replk.NotFound as error:
            print(f"the compiled op is not tested: {error}")
        else:
            yield "compiled", True

    def compare(self, model, bound, precision="f32", threads=1, sizes=(13,)):
        onnx.save(model, self.src)
        self.assertGreater(len(replk.onnx.rewrite(self.src, self.dst, check=False).swapped), 0)
        reference = ort.InferenceSession(str(self.src), providers=["CPUExecutionProvider"])
        for name, way in self.ways():
            core = ov.Core()
            self.assertEqual(replk.openvino.add_extension(core, way).split(":")[0], name)
            settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
            compiled = core.compile_model(core.read_model(self.dst), "CPU", settings)
            for side in sizes:
                random = np.random.default_rng(side)
                feeds = {}
                for value in model.graph.input:
                    dims = value.type.tensor_type.shape.dim
                    shape = [d.dim_value or (2 if i == 0 else side) for i, d in enumerate(dims)]
                    feeds[value.name] = random.standard_normal(shape).astype("f")
                expected = reference.run(None, feeds)[0]
                found = compiled([feeds[port.any_name] for port in compiled.inputs])[0]
                with self.subTest(way=name, side=side):
                    self.assertLessEqual(difference(expected, found), bound)

    def compare_narrow(self, model, shape):
        onnx.save(model, self.src)
        replk.onnx.rewrite(self.src, self.dst, check=False)
        x = np.random.default_rng(0).standard_normal(shape).astype("f")
        results = []
        for file, way in ((self.src, False), *((self.dst, way) for _, way in self.ways())):
            core = ov.Core()
            replk.openvino.add_extension(core, way)
            read = core.read_model(file)
            prepared = ov.preprocess.PrePostProcessor(read)
            prepared.input(0).tensor().set_element_type(ov.Type.f32)
            prepared.output(0).tensor().set_element_type(ov.Type.f32)
            results.append(core.compile_model(prepared.build(), "CPU")([x])[0].copy())
        for found in results[1:]:
            self.assertLessEqual(difference(results[0], found), 2e-2)

    def test_layers(self):
        for name, build in CASES.items():
            with self.subTest(name):
                b = Builder()
                self.compare(b.model(build(b)), 5e-6)

    def test_sizes_and_threads(self):
        b = Builder(channels=20, sides=("h", "w"))
        model = b.model(b.op("Add", "x", b.gelu(b.conv("x", 13))))
        for threads in (1, 2):
            self.compare(model, 5e-6, threads=threads, sizes=(14, 30, 9, 14))

    def test_inference_in_bfloat16(self):
        b = Builder()
        self.compare(b.model(b.grouped(b.relu(b.norm(b.conv("x", 7))), 1, 1)), 2e-2, precision="bf16")

    def test_a_bfloat16_model(self):
        b = Builder(kind=TensorProto.BFLOAT16)
        model = b.model(b.relu(b.norm(b.conv("x", 7))))
        self.compare_narrow(model, (2, 6, 13, 13))

    def test_a_bfloat16_model_with_a_scale(self):
        """What the op in Python computes in NumPy, since its shape has no place for it."""
        b = Builder(kind=TensorProto.BFLOAT16)
        b.input("x", (2, 6, 13, 13))
        model = b.model(b.op("Add", "x", b.op("Mul", b.gelu(b.conv("x", 7)), b.channels())))
        self.compare_narrow(model, (2, 6, 13, 13))

    def test_no_compiler_is_said(self):
        with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, CXX="no-such-compiler", REPLK_CACHE_DIR=cache):
            with self.assertRaisesRegex(replk.NotFound, "there is no C\\+\\+ compiler 'no-such-compiler'"):
                replk.openvino.add_extension(ov.Core(), True)
            self.assertIn("no-such-compiler", replk.openvino.add_extension(ov.Core()))
        with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, CXX="g++ --no-such-option", REPLK_CACHE_DIR=cache):
            with self.assertRaisesRegex(replk.NotFound, "could not be compiled: .*no-such-option"):
                replk.openvino.build()


class Examples(unittest.TestCase):
    def run_one(self, name):
        with tempfile.TemporaryDirectory() as directory:
            src = Path(directory) / "in.onnx"
            b = Builder()
            b.input("x", (1, 6, 13, 13))
            onnx.save(b.model(b.relu(b.norm(b.conv("x", 13)))), src)
            command = [sys.executable, EXAMPLES / name, src, Path(directory) / "out.onnx"]
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("1 of 1 convolutions swapped", done.stdout)
            return done.stdout

    def test_onnx_runtime(self):
        self.assertEqual(self.run_one("onnx_runtime.py").count(" ms\n"), 2)

    def test_openvino(self):
        self.assertIn("result: (1, 6, 13, 13)", self.run_one("openvino_runtime.py"))


if __name__ == "__main__":
    unittest.main()
