#!/usr/bin/env python3
"""The examples for ONNX Runtime and OpenVINO run, on a small model."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from needs import needs, needs_onnxruntime_library

for package in ("onnx", "onnxruntime", "openvino"):
    needs(package, "pip install onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.0; REPLK_TEST_FRAMEWORKS=1 makes an environment")

needs_onnxruntime_library()

import onnx  # noqa: E402
from onnx_graphs import Builder  # noqa: E402

EXAMPLES = Path(sys.argv.pop(1))


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
        self.assertIn("result: (1, 6, 13, 13)", self.run_one("openvino_runtime.py").replace("[1,6,13,13]", "(1, 6, 13, 13)"))


if __name__ == "__main__":
    unittest.main()
