#!/usr/bin/env python3
"""Every mutant names a place that is there, once, and a whole one: what changes takes its mutant along (tests/mutants/table.py)."""
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "mutants"))

from table import MUTANTS  # noqa: E402


class Mutants(unittest.TestCase):
    def test_places(self):
        self.assertGreater(len(MUTANTS), 100)
        for path, text, other, *_ in MUTANTS:
            with self.subTest(path=path, text=text):
                self.assertEqual((ROOT / path).read_text().count(text), 1)
                self.assertNotEqual(text, other)
                self.assertTrue(text.strip() and other.strip() and text[0] not in "&|,?", "no expression, no statement")
                for each in (text, other):
                    for opens, closes in ("()", "{}"):
                        self.assertEqual(each.count(opens), each.count(closes))


if __name__ == "__main__":
    unittest.main()
