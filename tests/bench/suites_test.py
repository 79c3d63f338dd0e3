"""replk_bench: a right kernel is timed and recorded, a wrong one is refused with exit code 1; bad arguments give 2."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))

import compare  # noqa: E402
import report  # noqa: E402


def run(*arguments):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.json")
        done = subprocess.run([PROGRAM, "--suites=replknet", "--benchmark_filter=n1c1024h7w7k13", "--quick", f"--out={out}",
                               *arguments], capture_output=True, text=True, env={**os.environ, "REPLK_TUNING": "off"})
        rows = None
        if os.path.exists(out):
            with open(out) as file:
                rows = json.load(file)
        return done, rows


def made_up(scale, shape="n1c8h8w8k7", visits=(1.0, 1.0, 1.0)):
    """A run of one row whose rounds are around `scale` of the peer's time, and its visits at multiples of it."""
    rounds = [scale * (1 + 0.001 * (i % 5)) for i in range(15)]
    return {"context": {"cpu": "x"}, "rows": [{"suite": "sizes", "shape": shape, "rounds": rounds, "best_peer_ms": 2.0,
                                               "visits": [{"ms": scale * v, "best_peer_ms": 2.0} for v in visits]}]}


class Suites(unittest.TestCase):
    def test_a_right_kernel_is_timed_and_recorded(self):
        done, result = run()
        self.assertEqual(done.returncode, 0, done.stderr)
        row, = result["rows"]
        self.assertEqual(row["shape"], "n1c1024h7w7k13")
        self.assertGreaterEqual(len(row["rounds"]), 15)
        self.assertGreater(row["ms_cold"], 0)
        self.assertTrue(any(p["implementation"].startswith("ref") and p["ms"] is None for p in row["peers"])
                        or all(not p["implementation"].startswith("ref") for p in row["peers"]))
        self.assertNotIn("ref", row["best_peer"] or "")

    def test_a_wrong_kernel_is_refused(self):
        done, result = run("--spoil")
        self.assertEqual(done.returncode, 1)
        self.assertIn("not timed", done.stdout + done.stderr)
        self.assertEqual(result["rows"], [])

    def test_unknown_suite(self):
        done = subprocess.run([PROGRAM, "--suites=nonsense"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("nonsense", done.stderr)


class WithoutTorch(unittest.TestCase):
    """What needs it says how to get it."""

    def test_a_bench_without_other_runtimes(self):
        with tempfile.TemporaryDirectory() as build:
            measured = os.path.join(build, "measured.json")  # what the benchmarks would write
            with open(measured, "w") as file:
                json.dump(run()[1], file)
            for name, does in (("replk_bench", f'for a; do case $a in --out=*) cp "{measured}" "${{a#--out=}}" ;; esac; done'),
                               ("replk", f'exec "{os.path.join(os.path.dirname(PROGRAM), "replk")}" "$@"')):
                with open(os.path.join(build, name), "w") as file:
                    file.write(f"#!/bin/sh\n{does}\n")
                os.chmod(file.name, 0o755)
            done = subprocess.run([sys.executable, os.path.join(ROOT, "bench", "run.py"), "--quick", "--no-networks", "--build", build,
                                   "--out", os.path.join(build, "out")], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("pip install --no-deps --require-hashes -r bench/peers/requirements.txt", done.stderr)

    def test_a_test_that_is_skipped(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "torch.py"), "w") as file:
                file.write("raise ImportError")
            done = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "model", "convert_test.py")], capture_output=True,
                                  text=True, env={**os.environ, "PYTHONPATH": folder})
            self.assertEqual(done.returncode, 77, done.stderr)
            self.assertIn("pip install torch numpy", done.stdout)


class Compare(unittest.TestCase):
    def test_finds_what_became_slower(self):
        self.assertEqual(compare.report(made_up(1.0), made_up(1.2), 0.05), 1)

    def test_faster_or_within_the_limit_is_no_failure(self):
        self.assertEqual(compare.report(made_up(1.0), made_up(0.8), 0.05), 0)
        self.assertEqual(compare.report(made_up(1.0), made_up(1.03), 0.05), 0)

    def test_visits_that_overlap_prove_nothing(self):
        self.assertEqual(compare.report(made_up(1.0, visits=(1.0, 0.9, 1.3)), made_up(1.2), 0.05), 0)

    def test_the_program_fails_above_its_limit_only(self):
        with tempfile.TemporaryDirectory() as folder:
            old, slower = os.path.join(folder, "old.json"), os.path.join(folder, "slower.json")
            for path, run_of in ((old, made_up(1.0)), (slower, made_up(1.2))):
                with open(path, "w") as file:
                    json.dump(run_of, file)

            def code(*arguments):
                return subprocess.run([sys.executable, os.path.join(ROOT, "bench", "compare.py"), *arguments],
                                      capture_output=True).returncode
            self.assertEqual(code(old, slower), 1)
            self.assertEqual(code(slower, old), 0)
            self.assertEqual(code(old, slower, "--limit", "0.25"), 0)
            self.assertEqual(code(old, os.path.join(folder, "missing.json")), 2)

    def test_noise_is_not_significant(self):
        self.assertGreater(compare.mann_whitney_p([1, 3, 5, 7, 9, 11, 13, 15, 17], [2, 4, 6, 8, 10, 12, 14, 16, 18]), 0.5)
        self.assertLess(compare.mann_whitney_p(range(10), range(20, 30)), 0.001)

    def test_rows_that_only_one_run_has_are_left_out(self):
        self.assertEqual(compare.changes(made_up(1.0), made_up(2.0, "n1c9h9w9k7")), [])


class Report(unittest.TestCase):
    def test_draws_what_it_is_given(self):
        _, result = run()
        result.update(schema=1, networks=[], layers=[], missing=["networks: <none>"])
        result["context"].update(date="2026-01-01", commit="abc", versions={"onednn": "3.2.0"})
        page = report.page(result)
        self.assertIn("n1c1024h7w7k13", page)
        self.assertIn("networks: &lt;none&gt;", page)
        self.assertNotIn("http://", page.replace("http://www.w3.org", ""))


if __name__ == "__main__":
    unittest.main()
