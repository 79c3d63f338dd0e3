#!/usr/bin/env python3
"""replk.batch.spark in a local session: the rows are the core's, and what is finished is not done again.

pyspark has 450 MB and needs Java 17, so that no environment of ./run test has it:
    python3 -m venv V; V/bin/pip install pyspark==4.3.0 numpy pandas pyarrow
    PYTHONPATH=python REPLK_LIBRARY=$PWD/build/libreplk_cpu.so V/bin/python tests/python/batch_spark_test.py
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from needs import needs

needs("numpy", "apt-get install python3-numpy")
needs("pyarrow", "pip install pyarrow")
needs("pyspark", "pip install pyspark==4.3.0 pandas, 450 MB, and Java 17")

import pyarrow.parquet as pq  # noqa: E402
from pyspark.sql import SparkSession  # noqa: E402

import replk.batch.spark  # noqa: E402
from pictures import write_pictures  # noqa: E402
from replk.batch import Job  # noqa: E402

NANO = pathlib.Path(__file__).resolve().parents[2] / "models" / "replknet-nano.safetensors"


class Local(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, True)
        os.environ["PYSPARK_PYTHON"] = sys.executable  # else workers take the first python3 of the path
        self.session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
        self.addCleanup(self.session.stop)

    def job(self, name, images):
        return Job.make(
            self.folder / name, [images], "replknet-nano", NANO, want="top3,logits", shard_size=16, batch=4, threads=1,
            runs=1, tune="off"
        )

    def test_rows_are_the_core_s(self):
        images = write_pictures(self.folder / "images", 200, {3, 77})
        job, one = self.job("spark", images), self.job("one", images)
        figures = replk.batch.spark.run(job, self.session)
        self.assertEqual(figures, {"done": 200, "total": 200, "errors": 2})
        shutil.copytree(job.folder / "tuning", one.folder / "tuning")
        subprocess.run([sys.executable, "-m", "replk.batch", "run", "--out", one.folder, "--cpus", "1"],
                       stderr=subprocess.DEVNULL)
        found, expected = (pq.read_table(j.folder / "parts").sort_by("index") for j in (job, one))
        self.assertTrue(found.equals(expected))
        self.assertEqual(found["index"].to_pylist(), list(range(200)))
        # Two parts are lost: they alone are done again.
        stamps = {path.name: path.stat().st_mtime_ns for path in (job.folder / "parts").glob("*.parquet")}
        for shard in (2, 9):
            job.part(shard).unlink()
            del stamps[job.part(shard).name]
        self.assertEqual(replk.batch.spark.run(job, self.session)["done"], 200)
        now = {path.name: path.stat().st_mtime_ns for path in (job.folder / "parts").glob("*.parquet")}
        self.assertEqual(len(now), job.shards)
        self.assertEqual({name: now[name] for name in stamps}, stamps)
        self.assertTrue(pq.read_table(job.folder / "parts").sort_by("index").equals(expected))


if __name__ == "__main__":
    unittest.main()
