"""bench/against.py: its arithmetic on made-up times, that both sides are timed in turns, and what is refused."""
import os
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))

import against  # noqa: E402

A, B = ("depthwise", "n1c8h8w8k7"), ("model", "replknet-31b@224")


class Summary(unittest.TestCase):
    def test_a_row_is_the_middle_of_its_visits_and_the_mean_is_geometric(self):
        result = against.summary({A: [(1.0, 2.0), (1.0, 1.0), (1.0, 4.0)], B: [(4.0, 2.0), (4.0, 1.0), (4.0, 2.0)]})
        self.assertEqual([(row["name"], row["ratio"]) for row in result["rows"]], [(A[1], 2.0), (B[1], 0.5)])
        self.assertAlmostEqual(result["geometric_mean"], 1.0)

    def test_a_row_is_slower_where_every_visit_says_so(self):
        noisy = against.summary({A: [(1.0, 1.5), (1.0, 1.0), (1.0, 1.5)], B: [(1.0, 0.5)] * 3})
        self.assertTrue(noisy["passed"])
        self.assertEqual(noisy["slower"], [])
        slower = against.summary({A: [(1.0, 1.5), (1.0, 1.08), (1.0, 1.5)], B: [(1.0, 0.5)] * 3})
        self.assertFalse(slower["passed"])
        self.assertEqual(slower["slower"], [A[1]])
        self.assertEqual(slower["worst"], A[1])
        self.assertAlmostEqual(slower["worst_in_every_visit"], 1.08)

    def test_many_small_losses_are_seen_in_the_mean(self):
        found = {("depthwise", str(i)): [(1.0, 1.03)] * 3 for i in range(8)}
        self.assertFalse(against.summary(found)["passed"])
        self.assertTrue(against.summary({row: [(1.0, 1.01)] * 3 for row in found})["passed"])

    def test_lines_name_what_became_slower(self):
        result = {"old_commit": "0123456789abcdef", **against.summary({A: [(1.0, 1.5)] * 3})}
        self.assertIn("slower: " + A[1], list(against.lines(result))[-1])


class Visits(unittest.TestCase):
    def test_both_sides_of_a_row_follow_each_other(self):
        calls = []

        def timed(side, row):
            calls.append((side, row))
            return {"old": 2.0, "new": 3.0}[side] + len(calls) % 4 // 2  # the second and third call take longer

        found = against.visit_rows([A, B], timed, 20)
        for visits in found.values():
            self.assertEqual(len(visits), 20)
            for old, new in visits:  # the lesser of both times: of one side the first call's or the last one's
                self.assertIn((old, new), [(2.0, 4.0), (3.0, 3.0)])
        turns = [calls[i:i + 4] for i in range(0, len(calls), 4)]
        for turn in turns:
            self.assertEqual(len({row for _, row in turn}), 1)
            self.assertIn([side for side, _ in turn], [["old", "new", "new", "old"], ["new", "old", "old", "new"]])
        self.assertEqual({turn[0][0] for turn in turns}, {"old", "new"})  # neither is always the first
        self.assertEqual({turn[0][1] for turn in turns[::2]}, {A, B})     # nor is a row


class Refused(unittest.TestCase):
    def test_what_is_neither_a_file_nor_a_commit(self):
        done = subprocess.run([sys.executable, os.path.join(ROOT, "bench", "run.py"), "--against", "no-such-commit"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("neither a file nor a commit", done.stderr)


if __name__ == "__main__":
    unittest.main()
