#!/usr/bin/env python3
"""tune, explain and cache: what is measured is remembered, carried elsewhere, checked, and trusted in nothing."""
import json
import os
import pty
import subprocess
import unittest

from replk import MODEL, PROGRAM, FolderTest

SHAPES = ("n1c16h8w8k5", "n1c24h9w7k7+relu")


def seal(body):
    """A line of the cache: an object with its FNV-1a checksum as the last field."""
    text = json.dumps(body, separators=(",", ":"))[:-1]
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f'{text},"check":"{value:016x}"}}\n'


class Tuning(FolderTest):
    def setUp(self):
        super().setUp()
        os.environ["REPLK_CACHE_DIR"] = str(self.folder / "cache")
        self.addCleanup(os.environ.pop, "REPLK_TUNING", None)
        self.cache = self.folder / "cache" / "tune.jsonl"

    def tune(self, *arguments):
        return self.json("tune", *arguments, "--threads", "1")

    def test_what_is_measured_is_remembered(self):
        self.assertEqual(self.json("cache", "path"), {"path": str(self.cache)})
        first = self.tune(*SHAPES)
        self.assertEqual([row["shape"] for row in first["rows"]], ["n1c16h8w8k5", "n1c24h9w7k7+relu"])
        self.assertEqual({row["source"] for row in first["rows"]}, {"measured"})
        second = self.tune(*reversed(SHAPES))
        self.assertEqual({row["source"] for row in second["rows"]}, {"cache"})
        self.assertEqual([r["pick"] for r in first["rows"]], [r["pick"] for r in reversed(second["rows"])])
        self.assertEqual({row["source"] for row in self.tune("--again", SHAPES[0])["rows"]}, {"measured"})
        listed = self.json("cache", "list")
        self.assertEqual(listed["faults"], [])
        self.assertEqual({r["shape"] for r in listed["records"]}, {r["shape"] for r in first["rows"]})

    def test_a_network_is_tuned_layer_by_layer(self):
        rows = self.tune("--model", MODEL, "--size", "64", "--budget", "3")["rows"]
        shapes = [row["shape"] for row in rows]
        self.assertEqual(len(shapes), len(set(shapes)))
        self.assertIn("n1c16h16w16k31+relu cold", shapes)  # as the network meets it
        self.assertTrue(any(s.startswith("linear-") for s in shapes) and any(s.startswith("dense-") for s in shapes))

    def test_explain(self):
        told = self.json("explain", SHAPES[0], "--threads", "1", "--budget", "0.2")
        self.assertEqual(told["candidates"][0]["candidate"], told["pick"])
        self.assertGreater(told["candidates"][0]["measured_ms"], 0)
        self.assertTrue(all(c["why"] for c in told["candidates"]))
        self.assertEqual([t["threads"] for t in told["tasks"]], [1, 2, 8, 64])
        self.assertTrue(all(p["tasks"] >= 1 for t in told["tasks"] for p in t["phases"]))
        modelled = [t["predicted_ms"] for t in told["tasks"]]
        self.assertGreater(min(modelled), 0)
        self.assertLess(modelled[2], modelled[0] + 5e-3 + 1e-9, "eight share the work of one, and wake up for it")
        self.assertEqual([t["used_threads"] for t in told["tasks"]], [1, 1, 1, 1], "there is little to do")
        again = self.json("explain", SHAPES[0], "--threads", "1")
        self.assertEqual((again["pick"], again["source"]), (told["pick"], "cache"))
        self.assertIn(told["pick"], self.succeed("explain", SHAPES[0], "--threads", "1"))

    def test_explain_says_how_many_threads_are_used(self):
        os.environ["REPLK_TUNING"] = "off"
        told = self.json("explain", "n1c16h7w7k3", "--threads", "64")
        self.assertEqual((told["threads"], told["used_threads"]), (64, 1))
        self.assertTrue(all(c["candidate"].endswith(" threads=1") for c in told["candidates"]))
        self.assertIn("on 64 threads, of which it uses 1:", self.succeed("explain", "n1c16h7w7k3", "--threads", "64"))
        told = self.json("explain", "n1c128h56w56k31", "--threads", "64")
        self.assertEqual((told["used_threads"], [t["used_threads"] for t in told["tasks"]]), (64, [1, 2, 8, 64]))
        self.assertIn("on 64 threads: ", self.succeed("explain", "n1c128h56w56k31", "--threads", "64"))
        told = self.json("explain", "n1c1024h7w7k13", "--threads", "64")
        self.assertEqual(told["used_threads"], int(told["pick"].split(" threads=")[1]))

    def test_cold_and_warm_are_two_choices(self):
        self.assertEqual({r["source"] for r in self.tune(SHAPES[0], "--cold", "--budget", "1")["rows"]}, {"measured"})
        self.assertEqual({r["source"] for r in self.tune(SHAPES[0], "--budget", "1")["rows"]}, {"measured"})
        cold = self.json("explain", SHAPES[0], "--cold", "--threads", "1")
        self.assertEqual((cold["shape"], cold["source"]), (f"{SHAPES[0]} cold", "cache"))
        self.assertEqual({r["shape"]: r["key"].get("caches") for r in self.json("cache", "list")["records"]},
                         {SHAPES[0]: None, f"{SHAPES[0]} cold": "cold"})
        told = self.json("cache", "verify", "--sample", "2", "--budget", "0.2")
        self.assertEqual((told["records"], told["faults"], len(told["sample"])), (2, [], 2))
        self.refuse("tune", SHAPES[0], "--cold", "--pass", "weight-gradient", names=("--cold", "weight-gradient"))

    def test_gradients_have_tilings_of_their_own(self):
        rows = self.tune("n1c16h8w8k5", "--pass", "weight-gradient", "--budget", "0.5")["rows"]
        self.assertEqual([row["shape"] for row in rows], ["n1c16h8w8k5 weight-gradient"])
        told = self.json("explain", "n1c16h8w8k5", "--pass", "weight-gradient", "--threads", "1")
        self.assertEqual((told["pick"], told["source"], told["pass"]), (rows[0]["pick"], "cache", "weight-gradient"))
        # The gradient of an input is made of forward passes: one, or one for each remainder by the stride.
        (row,) = self.tune("n1c16h8w8k5", "--pass", "input-gradient", "--budget", "0.5")["rows"]
        self.assertEqual(row["shape"], "n1c16h8w8k5nobias")
        told = self.json("explain", "n1c16h8w8k5", "--pass", "input-gradient", "--threads", "1")
        self.assertEqual((told["pick"], told["source"], told["shape"]), (row["pick"], "cache", "n1c16h8w8k5nobias"))
        rows = self.tune("n1c16h8w8k5s2", "--pass", "input-gradient", "--budget", "1")["rows"]
        self.assertEqual(len(rows), 4)
        self.refuse("explain", "n1c16h8w8k5s2", "--pass", "input-gradient", names=("several convolutions", rows[0]["shape"]))

    def test_explain_measures_nothing_where_tuning_is_off_or_cached(self):
        os.environ["REPLK_TUNING"] = "off"
        told = self.json("explain", SHAPES[0], "--threads", "1")
        self.assertEqual((told["source"], told["candidates"][0]["candidate"]), ("analytic", told["pick"]))
        self.assertTrue(all(c["measured_ms"] is None and "predicted" in c["why"] for c in told["candidates"]))
        self.assertIn("nothing was measured", self.succeed("explain", SHAPES[0], "--threads", "1"))
        self.assertFalse(self.cache.parent.exists(), "nothing is remembered, nor is there a place for it")
        self.refuse("explain", SHAPES[0], "--again", names=["--again", "REPLK_TUNING=off"])
        # What is remembered is not looked at.
        self.tune(SHAPES[0])
        before = self.cache.read_bytes()
        self.assertEqual(self.json("explain", SHAPES[0], "--threads", "1")["source"], "analytic")
        os.environ["REPLK_TUNING"] = "cached"
        self.assertEqual(self.json("explain", SHAPES[0], "--threads", "1")["source"], "cache")
        near = self.json("explain", "n1c24h8w8k5", "--threads", "1")
        self.assertEqual((near["source"], near["candidates"][0]["candidate"]), ("near(n1c16h8w8k5)", near["pick"]))
        self.assertTrue(all(c["measured_ms"] is None for c in near["candidates"]))
        self.assertEqual(self.cache.read_bytes(), before)

    def test_an_empty_variable_says_nothing(self):
        os.environ["REPLK_TUNING"] = ""
        explained = self.json("explain", SHAPES[0], "--threads", "1", "--budget", "0.1")
        self.assertEqual(explained["source"], "measured")
        self.assertEqual({r["shape"] for r in self.json("cache", "list")["records"]}, {SHAPES[0]})

    def test_on_a_terminal_bench_shows_that_it_measures_first(self):
        try:
            terminal, its_side = pty.openpty()
        except OSError as error:
            self.skipTest(f"no terminal is to be had here: {error}")
        os.environ["REPLK_TUNING"] = ""
        with open(terminal, "rb", buffering=0) as shown, open(its_side, "wb", buffering=0) as error:
            subprocess.run([PROGRAM, "bench", "depthwise", SHAPES[1], "--threads", "1", "--json"], check=True, timeout=200,
                           stdout=subprocess.DEVNULL, stderr=error)
            os.set_blocking(terminal, False)
            self.assertIn(f"tuning {SHAPES[1]}", (shown.read(4096) or b"").decode())
        self.assertEqual({r["shape"] for r in self.json("cache", "list")["records"]}, {SHAPES[1]})

    def test_a_cache_that_is_a_link(self):
        (self.folder / "dotfiles").mkdir()
        kept = self.folder / "dotfiles" / "replk.jsonl"
        self.cache.parent.mkdir()
        self.cache.symlink_to(kept)
        self.tune(*SHAPES)
        self.assertEqual(self.json("cache", "prune")["dropped"], 0)
        self.assertTrue(self.cache.is_symlink())
        self.assertEqual(len(kept.read_text().splitlines()), 3)
        self.assertEqual({row["source"] for row in self.tune(*SHAPES)["rows"]}, {"cache"})

    def test_export_import_merge(self):
        self.tune(*SHAPES)
        out, joined = self.folder / "out.jsonl", self.folder / "joined.jsonl"
        self.assertEqual(self.json("cache", "export", out)["records"], 2)
        first = out.read_bytes()
        self.assertEqual(self.json("cache", "export", out)["records"], 2)
        self.assertEqual(out.read_bytes(), first, "the same records are the same bytes")
        os.environ["REPLK_CACHE_DIR"] = str(self.folder / "elsewhere")
        self.assertEqual(self.json("cache", "import", out), {"added": 2, "replaced": 0, "refused": 0})
        self.assertEqual({row["source"] for row in self.tune(*SHAPES)["rows"]}, {"cache"})
        self.assertEqual(self.json("cache", "merge", out, self.cache, "--out", joined)["records"], 2)
        self.assertEqual(joined.read_bytes(), first)

    def test_damaged_lines_cost_themselves(self):
        self.tune(*SHAPES)
        lines = self.cache.read_text().splitlines(keepends=True)
        self.cache.write_text(lines[0] + lines[1].replace('"ns":', '"ns":1', 1) + lines[2])
        told = self.json("cache", "verify", "--sample", "0", code=1)
        self.assertEqual(told["records"], 1)
        self.assertIn("tune.jsonl:2: damaged line", told["faults"][0])
        self.assertEqual([r["source"] for r in self.tune(*SHAPES)["rows"]], ["measured", "cache"])

    def test_hostile_records_are_ignored_and_named(self):
        self.tune(SHAPES[0])
        record = json.loads(self.cache.read_text().splitlines()[1])
        del record["check"]
        right = record["pick"]
        picks = ["direct rows=2147483648 columns=2147483648", "portable tile=2147483648", "unknown n=1", "",
                 right + " lanes=16", "row-spectral n=-1", "x" * 300, "direct threads=2147483648"]
        for pick in picks:
            self.cache.write_text(seal({**record, "pick": pick}))
            told = self.json("cache", "verify", code=1)
            self.assertEqual((told["records"], len(told["faults"])), (0, 1), pick)
            self.assertIn("n1c16h8w8k5", told["faults"][0])
            self.assertEqual(self.tune(SHAPES[0])["rows"][0]["source"], "measured", pick)
        for change in ({"shape": "n1c16h8w8k7"}, {"shape": "nonsense"}, {"key": {**record["key"], "threads": "99999"}},
                       {"key": {**record["key"], "version": "0"}}):
            self.cache.write_text(seal({**record, **change}))
            self.assertEqual(len(self.json("cache", "verify", code=1)["faults"]), 1, change)
        self.assertEqual(self.json("cache", "prune")["dropped"], 1)
        self.assertEqual(self.json("cache", "verify")["records"], 0)

    def test_verify_measures_a_sample_again(self):
        self.tune(*SHAPES)
        told = self.json("cache", "verify", "--sample", "1", "--budget", "0.2")
        self.assertEqual((told["records"], len(told["sample"])), (2, 1))
        self.assertGreaterEqual(told["regret"], 1)

    def test_wrong_use(self):
        self.refuse("tune", names=["--model"])
        self.refuse("tune", SHAPES[0], "--model", MODEL, names=["--model"])
        self.refuse("tune", "nonsense", names=["nonsense"])
        self.refuse("tune", SHAPES[0], "--budget", "0", names=["--budget"])
        self.refuse("explain", names=["shape"])
        self.refuse("cache", names=["replk cache --help"])
        self.refuse("cache", "import", self.folder / "missing", names=["missing"])
        self.assertFalse(self.cache.exists())

    def test_without_a_place_it_still_tunes(self):
        os.environ["REPLK_CACHE_DIR"] = "/proc/nowhere"
        self.assertEqual([r["source"] for r in self.tune(SHAPES[0])["rows"]], ["measured"])


if __name__ == "__main__":
    unittest.main()
