#!/usr/bin/env python3
"""A job's manifest is hostile until it is checked: whatever it holds, one clear error or values in their ranges."""
import json
import os
import pathlib
import random
import tempfile
import unittest

from needs import needs

needs("numpy", "apt-get install python3-numpy")
needs("pyarrow", "pip install pyarrow, or ./run test with REPLK_TEST_FRAMEWORKS=1")

from replk.batch.job import Job  # noqa: E402
from replk.batch.manifest import FIELDS, read  # noqa: E402
from replk.errors import BadFile, NotFound  # noqa: E402

COUNT = 200_000 if os.environ.get("REPLK_SWEEP") == "long" else 2_000
WHOLE = {
    "format": 1, "model": "replknet-nano", "weights": "/w.safetensors", "weights_sha256": "0" * 64, "precision": "bf16",
    "exact": False, "seed": None, "size": [224, 224], "want": "top5,logits,stage2", "shard_size": 1024, "column": None, "batch": 8,
    "threads": 2, "runs": 1, "tune": "auto", "tune_budget": 2.0,
    "inputs": {"given": ["/images"], "count": 4097, "passed_over": 0, "sha256": "f" * 64},
}
HOSTILE = [None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, -0.0, 0.5, 1e308, float("nan"), float("inf"), "", "x", "\0", "9" * 5000,
           "top5,top5", "top99999", [], [1], [0, 0], [224, "224"], [[]] * 3, {}, {"count": -1}, "../../etc/passwd", "\ud800"]


class Manifest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.path = self.folder / "manifest.json"

    def test_a_whole_one_is_read(self):
        self.path.write_text(json.dumps(WHOLE))
        self.assertEqual(read(self.path), WHOLE)
        job = Job.open(self.folder)
        self.assertEqual((job.count, job.shards, job.rows_of(4)), (4097, 5, 1))

    def test_each_field_is_checked(self):
        for name in FIELDS:
            for value in ("missing", 7.5, {"x": 1}, "\0", -1):
                changed = dict(WHOLE)
                if value == "missing":
                    del changed[name]
                else:
                    changed[name] = value
                if (name, value) == ("tune_budget", 7.5):
                    continue
                with self.subTest(name=name, value=value):
                    self.path.write_text(json.dumps(changed))
                    with self.assertRaisesRegex(BadFile, f": {name} is "):
                        Job.open(self.folder)

    def test_whatever_it_holds(self):
        """Values exchanged at any depth, and bytes changed: an error of ours, or what Job can count with."""
        r = random.Random(2026)
        accepted = 0
        for _ in range(COUNT):
            changed = json.loads(json.dumps(WHOLE))
            for _ in range(r.randrange(3)):
                at = r.choice([changed, changed["inputs"]] if isinstance(changed.get("inputs"), dict) else [changed])
                at[r.choice(list(at) or ["x"])] = r.choice(HOSTILE)
            text = bytearray(json.dumps(changed).encode())
            for _ in range(r.choice((0, 0, 1, 3))):
                text[r.randrange(len(text))] = r.randrange(256)
            self.path.write_bytes(text[: r.randrange(len(text))] if r.randrange(20) == 0 else text)
            try:
                job = Job.open(self.folder)
            except BadFile as error:
                self.assertNotIn("\n", str(error))
                continue
            accepted += 1
            self.assertLessEqual((job.shards - 1) * job.shard_size, job.count)
            self.assertTrue(1 <= job.rows_of(job.shards - 1) <= job.shard_size)
        self.assertGreater(accepted, COUNT // 20)

    def test_what_is_no_file(self):
        with self.assertRaises(NotFound):
            Job.open(self.folder)
        self.path.mkdir()
        with self.assertRaises(BadFile):
            Job.open(self.folder)
        self.path.rmdir()
        self.path.write_text("[" * 200_000)
        with self.assertRaises(BadFile):
            Job.open(self.folder)


if __name__ == "__main__":
    unittest.main()
