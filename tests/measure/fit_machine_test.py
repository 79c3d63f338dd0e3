#!/usr/bin/env python3
"""replk_fit_machine: fit_machine_test.py PROGRAM MACHINE_HPP. What it measures it can fit, and what it prints is a row of
lib/depthwise/cost/machine.cpp. Never how fast."""
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

PROGRAM, MACHINE = sys.argv[1], pathlib.Path(sys.argv[2]).read_text()
SHAPES = ["n1c16h8w8k3", "n1c16h12w12k7", "n1c32h9w9k9"]


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], check=True, capture_output=True, text=True)


class FitMachine(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, text):
        path = pathlib.Path(self.folder.name) / "times.txt"
        path.write_text(text)
        return str(path)

    def constants(self, text):
        return [(name, float(value)) for name, value in re.findall(r"^\.(\S+) = (\S+),$", text, re.M)]

    def test_what_is_measured_is_fitted(self):
        times = run("measure", *SHAPES, "--each", "1").stdout
        rows = [line.split("\t") for line in times.splitlines()]
        if not rows:
            self.skipTest("no code can be generated here, so there is nothing to fit")
        self.assertEqual({row[0] for row in rows}, set(SHAPES))
        for _, tiling, seconds in rows:
            self.assertRegex(tiling, r"^(direct|row-spectral|spectral) \S+=")
            self.assertGreater(float(seconds), 0)
        done = run("fit", self.file(times))
        self.assertEqual([name for name, _ in self.constants(done.stdout)], re.findall(r'f\("([^"]+)"', MACHINE))
        for name, value in self.constants(done.stdout):
            self.assertGreaterEqual(value, 0, name)

    def test_a_fit_follows_the_times(self):
        """Invented ones: each tiling takes as long as any other."""
        times = run("measure", *SHAPES, "--each", "2").stdout
        if not times:
            self.skipTest("no code can be generated here, so there is nothing to fit")
        alike = "".join("\t".join(line.split("\t")[:2] + ["1e-4\n"]) for line in times.splitlines())
        done = run("fit", self.file(alike))
        errors = dict(re.findall(r"^(\w+): error (\S+);", done.stderr, re.M))
        self.assertLess(float(errors["after"]), 0.9 * float(errors["before"]))

    def test_of_other_lines_none_count(self):
        for text in ("", "n1c16h8w8k3\tno tiling\t1e-6\n", "n1c16h8w8k3\tportable\tsoon\n", "n1c16h8w8k3\tdirect rows=99 columns=1 ring=0 blocks=1\t1e-6\n"):
            done = run("fit", self.file(text))
            self.assertIn("holds no times", done.stderr)
            self.assertEqual(done.stdout, "")
        done = subprocess.run([PROGRAM, "fit", self.file("no shape\tportable\t1e-6\n")], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no shape", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
