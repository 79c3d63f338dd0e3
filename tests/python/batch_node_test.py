#!/usr/bin/env python3
"""What a node runs a job of replk.batch with: its kind's tuning, settings, progress, memory."""
import json
import os
import random
import shutil
import subprocess
import time
import unittest

from batch_case import LONG, QUICK, InAFolder, command, of_nano, run
from pictures import write_pictures

import replk
from replk.batch import Job
from replk.batch.listing import rows
from replk.batch.measure import pick, splits
from replk.batch.simulate import limit, simulate
from replk.batch.sorting import in_order
from replk.batch.tuning import kind_of, machine
from replk.batch.wanted import Wanted


class Machines(InAFolder):
    def test_a_kind_is_tuned_once_and_no_other_starts_with_it(self):
        images = write_pictures(self.folder / "images", 8)
        out = self.folder / "job"
        arguments = [*of_nano(images), "--out", out, "--shard-size", "4", "--batch", "4", "--threads", "1", "--runs", "1"]
        environment = {**os.environ, "REPLK_CACHE_DIR": str(self.folder / "users"), "REPLK_MAX_ISA": "avx2"}

        def plan(**other):
            done = subprocess.run(
                command("plan", *arguments, "--tune", "now", "--tune-budget", "0.01", "--json"), capture_output=True, text=True,
                env={**environment, **other}
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            return json.loads(done.stdout)["kind"]

        first = plan()
        tuned = out / "tuning" / f"{first}.jsonl"
        records = tuned.read_text().splitlines()
        self.assertGreater(len(records), 3)
        before = tuned.stat().st_mtime_ns
        start = time.monotonic()
        self.assertEqual(plan(), first)
        self.assertEqual(tuned.stat().st_mtime_ns, before)
        self.assertFalse((self.folder / "users").exists(), "the job's records were put into the user's cache")
        other = plan(REPLK_MAX_ISA="portable")
        self.assertNotEqual(other, first)
        self.assertEqual(tuned.stat().st_mtime_ns, before)
        for line in (out / "tuning" / f"{other}.jsonl").read_text().splitlines():
            self.assertNotIn('"isa":"avx2"', line)
        settings = json.loads((out / "tuning" / f"{first}.json").read_text())
        self.assertEqual(settings["machine"]["isa"], "avx2")
        with open(tuned, "a") as file:
            file.write("\n")
        done = subprocess.run(command("run", "--out", out), capture_output=True, text=True, env=environment)
        self.assertEqual(done.returncode, 2)
        self.assertIn(first, done.stderr)
        print(f"{len(records)} records, second start {time.monotonic() - start:.1f} s")

    def test_kinds_differ_by_what_records_depend_on(self):
        here = machine(2)
        self.assertEqual(kind_of(here), kind_of(machine(2)))
        for name, value in (("model", 1), ("cpus", 3), ("l2", 1), ("features", []), ("version", "9"), ("isa", "portable")):
            self.assertNotEqual(kind_of({**here, name: value}), kind_of(here), name)

    def test_the_plan_is_measured(self):
        images = write_pictures(self.folder / "images", 40)
        arguments = [*of_nano(images), "--out", self.folder / "job", "--cpus", "2"]
        figures = json.loads(run("plan", *arguments, "--json").stdout)
        self.assertEqual((figures["inputs"], figures["models"]), (40, 1))
        self.assertGreater(figures["measured"][0]["images_per_second"], 0)
        self.assertLessEqual(figures["threads"] * figures["runs"], 2)
        text = run("plan", *arguments).stdout
        for word in (figures["kind"], "one model a node", f"batch {figures['batch']}", *figures["why"]):
            self.assertIn(word, text)

    def test_the_choice_goes_by_rates(self):
        self.assertEqual(splits(1), [1])
        self.assertEqual(splits(2), [1, 2])
        self.assertEqual(splits(64), [1, 4, 16, 64])
        self.assertEqual(pick({(8, 1, 2): 100.0, (16, 1, 2): 102.0, (32, 1, 2): 90.0}), (8, 1, 2))
        self.assertEqual(pick({(8, 1, 2): 100.0, (16, 1, 2): 110.0, (8, 2, 1): 100.0}), (16, 1, 2))


class Small(InAFolder):
    def test_sorting_in_pieces(self):
        chance = random.Random(1)
        strings = [bytes(chance.randrange(256) for _ in range(chance.randrange(12))) for _ in range(1000)]
        for run_length in (1000, 999, 7):
            self.assertEqual(list(in_order(strings, run_length)), sorted(strings))

    def test_wanted(self):
        for text in ("", "top", "top0", "stage5", "logits,logits", "top1,top2", "labels"):
            with self.assertRaisesRegex(replk.InvalidArgument, "want"):
                Wanted(text)
        names = [field.name for field in Wanted("stage4,top2,embedding").fields()]
        self.assertEqual(names, ["classes", "probabilities", "stage4", "embedding"])

    def test_progress_on_a_terminal_and_elsewhere(self):
        images = write_pictures(self.folder / "images", 9, {2})
        arguments = command("run", *of_nano(images), "--out", self.folder / "job", *QUICK)
        done = subprocess.run(arguments, capture_output=True, text=True)
        last = json.loads(done.stderr.splitlines()[-1])
        self.assertEqual((last["done"], last["total"], last["errors"], last["seconds_left"]), (9, 9, 1, 0.0))
        self.assertGreater(last["images_per_second"], 0)
        shutil.rmtree(self.folder / "job")
        ours, theirs = os.openpty()
        process = subprocess.Popen(arguments, stderr=theirs)
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 4096):
                text += piece
        except OSError:  # what Linux says at the end of a terminal
            pass
        os.close(ours)
        self.assertEqual(process.wait(), 1)
        self.assertRegex(text.decode(), r"9 of 9 images, [\d.]+ a second, 0:00:00 left, 1 errors")

    def test_memory_does_not_grow_with_the_listing(self):
        """Mostly paths that lead nowhere, so that the listing is long and the test is not."""
        few, many = (10_000, 1_000_000) if LONG else (2_000, 60_000)
        images = write_pictures(self.folder / "images", 4)
        names = sorted(str(path.relative_to(self.folder)) for path in images.rglob("*.png"))
        peaks = []
        for count in (few, many):
            with open(self.folder / f"{count}.txt", "w") as file:
                for i in range(count):
                    print(names[i % 4] if i % 100 == 0 else f"nowhere/in/a/folder/of/photographs/{i:09}.jpg", file=file)
            process = subprocess.Popen(
                command("run", *of_nano(self.folder / f"{count}.txt"), "--out", self.folder / f"job{count}", *QUICK),
                stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(process.returncode, 1)
            job = Job.open(self.folder / f"job{count}")
            self.assertEqual(sum(int(job.finished(shard)["replk.rows"]) for shard in range(job.shards)), count)
            peaks.append(usage.ru_maxrss / 1024)
        print(f"peak memory, MiB: {peaks[0]:.0f} with {few} inputs, {peaks[1]:.0f} with {many}", flush=True)
        self.assertLess(peaks[1], 300)
        self.assertLess(peaks[1] - peaks[0], 40)

    def test_a_listing_is_a_stream(self):
        listed = rows([str(write_pictures(self.folder / "images", 3))])
        self.assertEqual(next(iter(listed)).name, str(self.folder / "images" / "000" / "00000.png"))


class Simulation(unittest.TestCase):
    def test_it_agrees_with_what_can_be_reckoned(self):
        # Far from any limit a node keeps its rate; far beyond, all share the bandwidth.
        self.assertAlmostEqual(simulate(10, 30.0, 1e5, 1e10), 300, delta=6)
        self.assertAlmostEqual(simulate(1000, 30.0, 1e5, 1e9), 1e4, delta=500)
        for rate, size, bandwidth in ((28.0, 110e3, 1.25e9), (1000.0, 110e3, 5e9), (4500.0, 500.0, 1e9)):
            expected = bandwidth / (rate * size) / 0.95
            self.assertAlmostEqual(limit(rate, size, bandwidth), expected, delta=0.1 * expected + 1)
        # Too few readers for the time until the first byte: 4 in 50 ms are 80 a second.
        self.assertAlmostEqual(simulate(1, 500.0, 1e3, 1e10, latency=0.05, readers=4), 80, delta=8)
        self.assertEqual(limit(500.0, 1e3, 1e10, latency=0.05, readers=4), 0)


if __name__ == "__main__":
    unittest.main()
