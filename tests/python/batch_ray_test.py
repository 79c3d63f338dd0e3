#!/usr/bin/env python3
"""replk.batch.ray on a cluster of two nodes: a node is killed at a third, the driver at two thirds, then it is run again.

Ray has 600 MB with what it needs, so that no environment of ./run test has it:
    python3 -m venv V; V/bin/pip install 'ray[data]==2.60.0'
    PYTHONPATH=python REPLK_LIBRARY=$PWD/build/libreplk_cpu.so V/bin/python tests/python/batch_ray_test.py
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from needs import needs

needs("numpy", "apt-get install python3-numpy")
needs("pyarrow", "pip install pyarrow")
needs("ray", "pip install 'ray[data]==2.60.0', 600 MB")

import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import ray  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from pictures import write_pictures  # noqa: E402
from replk.batch import Job  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
NANO = ROOT / "models" / "replknet-nano.safetensors"
IMAGES, BROKEN, SHARD = 2000, frozenset(range(50, 2000, 100)), 25
DRIVER = """
import sys, ray, replk.batch, replk.batch.ray
ray.init(sys.argv[1], logging_level="ERROR")
print(replk.batch.ray.run(replk.batch.Job.open(sys.argv[2])))
"""


class LostNodes(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, True)
        os.environ.pop("RAY_ADDRESS", None)
        os.environ["RAY_worker_niceness"] = "0"  # on a machine that others use, Ray's 15 would make this last for hours
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100 << 20})
        self.addCleanup(self.cluster.shutdown)
        self.other = self.cluster.add_node(num_cpus=2, object_store_memory=100 << 20)
        self.cluster.wait_for_nodes()

    def driver(self, job):
        return subprocess.Popen([sys.executable, "-c", DRIVER, self.cluster.address, job.folder], start_new_session=True)

    def job(self, name, images):
        return Job.make(
            self.folder / name, [images], "replknet-nano", NANO, want="top3,logits", size=96, shard_size=SHARD, batch=8,
            threads=1, runs=2, tune="now", tune_budget=0.05
        )

    def parts(self, job):
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (job.folder / "parts").glob("*.parquet")}

    def await_parts(self, job, count, driver):
        while len(self.parts(job)) < count:
            self.assertIsNone(driver.poll(), "the driver ended too early")
            time.sleep(0.005)

    def test_a_node_and_the_driver_are_killed(self):
        images = write_pictures(self.folder / "images", IMAGES, BROKEN)
        job = self.job("job", images)
        driver = self.driver(job)
        self.await_parts(job, job.shards // 3, driver)
        killed_at = len(self.parts(job))
        self.cluster.remove_node(self.other, allow_graceful=False)
        print(f"a node was killed at {killed_at} of {job.shards} shards", flush=True)
        self.await_parts(job, job.shards * 2 // 3, driver)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        time.sleep(5)  # its actors are taken away by Ray; what they finish until then is finished
        before = self.parts(job)
        print(f"the driver was killed, {len(before)} shards are finished", flush=True)
        self.assertLess(len(before), job.shards, "nothing was left to do: the test shows nothing")
        self.cluster.add_node(num_cpus=2, object_store_memory=100 << 20)
        self.assertEqual(self.driver(job).wait(), 0)
        after = self.parts(job)
        self.assertEqual(len(after), job.shards)
        self.assertEqual({name: after[name] for name in before}, before, "a finished shard was computed again")
        self.compare(job, images)

    def compare(self, job, images):
        one = self.job("one", images)
        shutil.copytree(job.folder / "tuning", one.folder / "tuning", ignore=shutil.ignore_patterns("*.lock"))
        (tuned,) = job.folder.glob("tuning/*.jsonl")
        self.assertGreater(len(tuned.read_bytes().splitlines()), 5, "no record travelled with the job")
        subprocess.run(
            [sys.executable, "-m", "replk.batch", "run", "--out", one.folder, "--cpus", "2"],
            stderr=subprocess.DEVNULL
        )
        found, expected = (
            pq.read_table(j.folder / "parts").sort_by("index") for j in (job, one)
        )
        self.assertEqual(found["index"].to_pylist(), list(range(IMAGES)))
        failed = [i for i, error in enumerate(found["error"].to_pylist()) if error is not None]
        self.assertEqual(failed, sorted(BROKEN))
        self.assertEqual(found.column_names, expected.column_names)
        for name in found.column_names:
            self.assertTrue(found[name].equals(expected[name]), name)
        logits = np.array([row for row in found["logits"].to_pylist() if row is not None])
        self.assertEqual(logits.shape, (IMAGES - len(BROKEN), 10))
        self.assertGreater(len(np.unique(logits.round(3), axis=0)), IMAGES // 2)
        kinds = {pq.read_metadata(path).metadata[b"replk.host"] for path in (job.folder / "parts").glob("*.parquet")}
        print(f"{len(found)} rows, {len(logits)} equal to one process's in every bit, {len(failed)} errors; hosts {kinds}")


if __name__ == "__main__":
    unittest.main()
