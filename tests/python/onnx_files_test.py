#!/usr/bin/env python3
"""replk.onnx: files, hostile ones too; the op in sessions of ONNX Runtime."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

from onnx_case import Case, session  # first: it skips where something is missing

import numpy as np
import onnx
import onnxruntime as ort
import replk
import replk.onnx
from onnx import helper, numpy_helper
from onnx_graphs import Builder
from replk.onnx._check import compare, difference
from threads import on_four_threads


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
        failed = subprocess.run([*command[:3], "none.onnx", "out.onnx"], capture_output=True, text=True)
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

        on_four_threads(work)
        self.assertEqual(len(worst), 80)
        self.assertLessEqual(max(worst), 5e-6)

    def test_the_same_bits_at_every_run(self):
        self.prepare()
        x = np.random.default_rng(7).standard_normal((1, 20, 28, 28)).astype("f")
        made = session(self.dst, 2)
        first = made.run(None, {"x": x})[0]
        for _ in range(5):
            self.assertTrue(np.array_equal(first, made.run(None, {"x": x})[0]))

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
