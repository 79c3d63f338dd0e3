"""What the tests of replk.onnx share: sessions with the op, and a model before and after."""
import tempfile
import unittest
from pathlib import Path

from needs import needs, needs_onnxruntime_library

for package in ("onnx", "onnxruntime"):
    needs(package, "pip install onnx==1.23.2 onnxruntime==1.32.0; ./run test with REPLK_TEST_FRAMEWORKS=1 makes an environment")
needs_onnxruntime_library()

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
import replk.onnx  # noqa: E402
from onnx import helper  # noqa: E402
from replk.onnx._check import difference  # noqa: E402


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
