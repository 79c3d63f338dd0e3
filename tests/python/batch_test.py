#!/usr/bin/env python3
"""replk.batch without an engine: results against replk.Model's, all kinds of inputs, processes that are killed, memory."""
import collections
import contextlib
import io
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

from needs import needs

needs("numpy", "apt-get install python3-numpy")
needs("pyarrow", "pip install pyarrow, or ./run test with REPLK_TEST_FRAMEWORKS=1")

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from pictures import picture, png, write_pictures  # noqa: E402
import replk  # noqa: E402
from replk.batch import Job  # noqa: E402
from replk.batch.__main__ import main  # noqa: E402
from replk.batch.listing import rows  # noqa: E402
from replk.batch.measure import pick, splits  # noqa: E402
from replk.batch.sorting import in_order  # noqa: E402
from replk.batch.tuning import kind_of, machine  # noqa: E402
from replk.batch.wanted import Wanted  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
NANO = ROOT / "models" / "replknet-nano.safetensors"
LONG = os.environ.get("REPLK_SWEEP") == "long"
QUICK = ["--batch", "4", "--threads", "1", "--runs", "2", "--tune", "off"]


def command(*arguments):
    return [sys.executable, "-m", "replk.batch", *map(str, arguments)]


def run(*arguments):
    """The command in this process, which is quicker."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(map(str, arguments)))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def of_nano(*arguments):
    return [*arguments, "--model", "replknet-nano", "--weights", NANO]


def stamps(job):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (job / "parts").glob("*.parquet")}


class InAFolder(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, True)

    def job(self, name, *arguments, code=0):
        """Runs a job of nano; its rows."""
        out = self.folder / name
        done = run("run", *of_nano(*arguments), "--out", out, *QUICK)
        self.assertEqual(done.returncode, code, done.stderr)
        return pq.read_table(out / "parts").sort_by("index")

    def refused(self, words, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, 2, done.stderr)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        for word in words:
            self.assertIn(word, lines[0])


class Results(InAFolder):
    def test_rows_are_what_the_model_says(self):
        images = write_pictures(self.folder / "images", 21, {3, 8})
        found = self.job("job", images, "--want", "top3,logits,stage2,embedding", "--shard-size", "8", code=1)
        network = replk.Model("replknet-nano", NANO, threads=1)
        self.assertEqual(found["index"].to_pylist(), list(range(21)))
        for row, path in zip(found.to_pylist(), sorted(images.rglob("*.png"))):
            self.assertEqual(row["input"], str(path))
            if row["index"] in (3, 8):
                self.assertIn(str(path), row["error"])
                self.assertNotIn("\n", row["error"])
                self.assertEqual([row[name] for name in ("classes", "logits", "stage2", "embedding")], [None] * 4)
                continue
            self.assertIsNone(row["error"])
            pixels = network.read(path)[None]
            logits = network.logits(pixels)[0]
            # Other batches may have other plans: equal to the accuracy of class fast, not in every bit.
            np.testing.assert_allclose(row["logits"], logits, atol=2e-5 * np.abs(logits).max())
            guesses = network.classify([path], top=3)[0]
            self.assertEqual(row["classes"], [g.index for g in guesses])
            np.testing.assert_allclose(row["probabilities"], [g.probability for g in guesses], rtol=1e-4)
            maps = network.features(pixels)
            np.testing.assert_allclose(row["stage2"], maps[1].ravel(), atol=2e-5 * np.abs(maps[1]).max())
            mean = maps[3][0].mean(axis=(1, 2), dtype=np.float64)
            np.testing.assert_allclose(row["embedding"], mean, atol=2e-5 * np.abs(maps[3]).max())
        metadata = pq.read_metadata(self.folder / "job" / "parts" / "part-000000.parquet").metadata
        self.assertEqual(metadata[b"replk.shape.stage2"].decode(), "x".join(map(str, maps[1].shape[1:])))

    def test_the_program_says_the_same(self):
        """Same pixels, same batch, same plans: the classes that `replk eval` keeps."""
        program = os.environ.get("REPLK_PROGRAM")
        if program is None:
            self.skipTest("REPLK_PROGRAM is not set: no program to compare with")
        for c in range(2):
            write_pictures(self.folder / "images" / f"class{c}", 10)
        found = self.job("job", self.folder / "images", "--want", "top1")
        predictions = self.folder / "predictions.csv"
        subprocess.run([program, "eval", "--model", "replknet-nano", "--weights", NANO, "--images", self.folder / "images", "--batch", "4",
                        "--threads", "1", "--out", predictions], check=True, capture_output=True,
                       env={**os.environ, "REPLK_TUNING": "cached"})
        said = [line.split(",") for line in predictions.read_text().splitlines() if line and line[0].isdigit()]
        self.assertEqual(len(said), 20)
        self.assertEqual([int(line[3]) for line in said], [row[0] for row in found["classes"].to_pylist()])

    def test_every_kind_of_input_gives_the_same_bits(self):
        images = write_pictures(self.folder / "images", 13, {5})
        paths = sorted(images.rglob("*.png"))
        (self.folder / "list.txt").write_text("".join(f"{path.relative_to(self.folder)}\n" for path in paths))
        contents = [path.read_bytes() for path in paths]
        pq.write_table(pa.table({"id": range(13), "jpg": pa.array(contents, pa.binary())}), self.folder / "plain.parquet", row_group_size=5)
        structs = pa.array([{"bytes": content, "path": str(i)} for i, content in enumerate(contents)])
        pq.write_table(pa.table({"image": structs}), self.folder / "struct.parquet", row_group_size=5)
        pq.write_table(pa.table({"path": [str(path) for path in paths]}), self.folder / "paths.parquet")
        with tarfile.open(self.folder / "shard.tar", "w") as archive:
            for i, path in enumerate(paths):
                archive.add(path, f"{i:04}.png")
                (self.folder / "x.cls").write_text(str(i))
                archive.add(self.folder / "x.cls", f"{i:04}.cls")
        expected = self.job("folder", images, "--want", "logits", "--shard-size", "7", code=1)
        self.assertEqual(sum(error is not None for error in expected["error"].to_pylist()), 1)
        for kind in ("list.txt", "plain.parquet", "struct.parquet", "paths.parquet", "shard.tar"):
            found = self.job(kind + ".job", self.folder / kind, "--want", "logits", "--shard-size", "7", code=1)
            self.assertTrue(found["logits"].equals(expected["logits"]), kind)
            self.assertEqual([e is None for e in found["error"].to_pylist()], [i != 5 for i in range(13)], kind)

    def test_what_is_damaged_is_a_row(self):
        pictures = [png(picture(i)) for i in range(6)]
        images = self.folder / "images"
        images.mkdir()
        for i, content in enumerate(pictures):
            (images / f"{i}.png").write_bytes(content)
        (images / "empty.jpg").write_bytes(b"")
        (images / "nowhere.png").symlink_to(self.folder / "gone")
        (images / ".hidden.png").write_bytes(pictures[0])
        (images / "notes.txt").write_text("no image")
        os.mkfifo(images / "pipe.png")
        (images / "loop").symlink_to(images)
        with open(os.fsencode(images) + b"/\xff\n.png", "wb") as file:
            file.write(pictures[0])
        found = self.job("folder", images, code=1)
        errors = {row["input"]: row["error"] for row in found.to_pylist()}
        self.assertEqual(len(errors), 9)
        self.assertEqual({pathlib.Path(name).name for name, error in errors.items() if error}, {"empty.jpg", "nowhere.png"})
        self.assertEqual(Job.open(self.folder / "folder").manifest["inputs"]["passed_over"], 3)

        with tarfile.open(self.folder / "whole.tar", "w") as archive:
            for i in range(6):
                archive.add(images / f"{i}.png")
        whole = (self.folder / "whole.tar").read_bytes()
        (self.folder / "cut.tar").write_bytes(whole[: len(whole) // 3])
        (self.folder / "noise.tar").write_bytes(bytes(random.Random(1).randrange(256) for _ in range(4096)))
        (self.folder / "noise.parquet").write_bytes(b"PAR1" + bytes(200) + b"PAR1")
        column = pa.array([pictures[0], None, b"x" * 9], pa.binary())
        pq.write_table(pa.table({"jpg": column}), self.folder / "nulls.parquet")
        (self.folder / "list.txt").write_bytes(b"images/0.png\r\n\n/nowhere/at/all.jpg\nimages/\0.png\n")
        given = [self.folder / name for name in ("cut.tar", "noise.tar", "noise.parquet", "nulls.parquet", "list.txt")]
        found = self.job("damaged", *given, code=1).to_pylist()
        bad = collections.Counter(pathlib.Path(row["input"].split("#")[0].split(".tar/")[0]).name for row in found if row["error"])
        self.assertEqual([bad[name] for name in ("noise.tar", "noise.parquet", "nulls.parquet", "all.jpg")], [1, 1, 2, 1])
        self.assertGreaterEqual(sum("cut" in row["input"] and row["error"] is not None for row in found), 1)
        for row in found:
            self.assertNotIn("\n", row["error"] or "")

    def test_a_table_that_breaks_in_the_middle(self):
        """Pages of one row group are overwritten: its rows are errors, those of the others are not."""
        contents = [png(picture(i)) for i in range(12)]
        path = self.folder / "t.parquet"
        pq.write_table(pa.table({"jpg": pa.array(contents, pa.binary())}), path, row_group_size=4, compression="none", use_dictionary=False)
        group = pq.ParquetFile(path).metadata.row_group(1).column(0)
        with open(path, "r+b") as file:
            file.seek(group.data_page_offset)
            file.write(b"\xff" * 40)
        found = self.job("job", path, code=1)
        self.assertEqual([error is None for error in found["error"].to_pylist()], [True] * 4 + [False] * 4 + [True] * 4)


class Jobs(InAFolder):
    def test_again_does_nothing_and_another_is_refused(self):
        images = write_pictures(self.folder / "images", 30)
        out = self.folder / "job"
        arguments = [*of_nano(images), "--out", out, "--shard-size", "8", *QUICK]
        self.assertEqual(run("run", *arguments).returncode, 0)
        before = stamps(out)
        self.assertEqual(len(before), 4)
        again = run("run", *arguments, "--json")
        self.assertEqual(json.loads(again.stdout)["done"], 30)
        self.assertEqual(run("run", "--out", out).returncode, 0)
        self.assertEqual(stamps(out), before)
        for option, value in (("--want", "logits"), ("--precision", "int8"), ("--shard-size", "9"), ("--size", "56"), ("--batch", "2")):
            self.refused([str(out), "another folder"], "run", *arguments, option, value)
        other = self.folder / "other.safetensors"
        shutil.copy(NANO, other)
        with open(other, "r+b") as file:  # one weight
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last[0] ^ 1]))
        self.refused([str(out), "weights"], "run", *arguments, "--weights", other)
        (images / "one_more.png").write_bytes(png(picture(1)))
        self.refused([str(out), "inputs", "30", "31"], "run", *arguments)
        self.assertEqual(stamps(out), before)

    def test_wrong_use_is_one_line(self):
        images = write_pictures(self.folder / "images", 2)
        out = self.folder / "job"
        for words, arguments in (
            (["no job"], ["run", "--out", out]),
            (["--model"], ["run", images, "--out", out]),
            (["nowhere"], ["run", *of_nano("/nowhere/at/all"), "--out", out]),
            (["run"], ["run", *of_nano(ROOT / "run"), "--out", out]),
            (["want", "top0"], ["run", *of_nano(images), "--out", out, "--want", "top0"]),
            (["want", "11", "10 classes"], ["run", *of_nano(images), "--out", self.folder / "a", "--want", "top11"]),
            (["replknet-99"], ["run", images, "--model", "replknet-99", "--out", self.folder / "b"]),
            (["/nowhere"], ["run", images, "--model", "replknet-nano", "--weights", "/nowhere.safetensors", "--out", out]),
            (["shard_size", "0"], ["run", *of_nano(images), "--out", out, "--shard-size", "0"]),
            (["threads", "3 x 2", "2"], ["run", *of_nano(images), "--out", self.folder / "c", "--threads", "3", "--runs", "2", "--cpus", "2"]),
            (["share", "3/2"], ["run", *of_nano(images), "--out", self.folder / "d", "--share", "3/2"]),
        ):
            self.refused(words, *arguments)

    def test_damaged_parts(self):
        images = write_pictures(self.folder / "images", 30)
        found = self.job("job", images, "--shard-size", "8")
        job = Job.open(self.folder / "job")
        before = stamps(job.folder)
        with open(job.part(1), "r+b") as file:  # by the disk
            file.truncate(job.part(1).stat().st_size // 2)
        self.assertEqual(job.missing(), [1])
        self.assertTrue(self.job("job", images, "--shard-size", "8").equals(found))
        self.assertEqual({n: s for n, s in stamps(job.folder).items() if "1" not in n}, {n: s for n, s in before.items() if "1" not in n})
        shutil.copy(job.part(1), job.part(2))
        self.refused(["part-000002", "shard 1"], "run", "--out", job.folder)
        self.refused(["part-000002"], "merge", job.folder, "--out", self.folder / "all.parquet")

    def test_shares_and_merge(self):
        images = write_pictures(self.folder / "images", 30, {7})
        whole = self.job("whole", images, "--shard-size", "4", code=1)
        out = self.folder / "shares"
        arguments = [*of_nano(images), "--out", out, "--shard-size", "4", *QUICK]
        self.assertEqual(run("run", *arguments, "--share", "2/3").returncode, 1)
        self.assertEqual(sorted(stamps(out)), [f"part-{i:06}.parquet" for i in (1, 4, 7)])
        self.refused(["5 of 8", "first is 0"], "merge", out, "--out", self.folder / "all.parquet")
        for share in ("1/3", "3/3"):
            self.assertEqual(run("run", *arguments, "--share", share).returncode, 0)
        done = run("merge", out, "--out", self.folder / "all.parquet", "--json")
        self.assertEqual(json.loads(done.stdout)["rows"], 30, done.stderr)
        self.assertTrue(pq.read_table(self.folder / "all.parquet").equals(whole))

    def test_killed_at_any_moment(self):
        kills = 50 if LONG else 6
        images = write_pictures(self.folder / "images", 400, {100, 250})
        whole = self.job("whole", images, "--shard-size", "8", "--want", "logits", code=1)
        chance, done, job = random.Random(24), 0, None
        while done < kills:
            job = self.folder / f"job{done}"
            arguments = command("run", *of_nano(images), "--out", job, "--shard-size", "8", "--want", "logits", *QUICK)
            finished = False
            while not finished:
                before = stamps(job) if job.exists() else {}
                process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
                try:
                    # From the start of the interpreter on, the listing included; mostly in the middle of the work.
                    if done < kills:
                        process.wait(chance.uniform(0, 0.3) if chance.random() < 0.2 else self.first_part(job, before) + chance.uniform(0, 0.2))
                    finished = process.wait(None if done >= kills else 0) == 1
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    done += 1
                self.whole_parts(job, before)
            found = pq.read_table(job / "parts").sort_by("index")
            self.assertTrue(found.equals(whole), "rows were lost, doubled or changed")
            self.assertEqual(os.listdir(job / "parts" / ".unfinished"), [], "a killed process left something behind")
            shutil.rmtree(job)
        print(f"killed {done} times", flush=True)

    def first_part(self, job, before):
        """Waits until the run has added a part; 0."""
        end = time.monotonic() + 20
        while time.monotonic() < end and (not job.exists() or len(stamps(job)) == len(before)) and len(before) < 50:
            time.sleep(0.002)
        return 0

    def whole_parts(self, folder, before):
        """Nothing that has a part's name is torn, and what was finished is untouched."""
        if not (folder / "manifest.json").exists():
            return
        job, now = Job.open(folder), stamps(folder)
        self.assertEqual({name: now[name] for name in before}, before)
        for name in now:
            shard = int(name[5:11])
            table = pq.read_table(folder / "parts" / name)
            self.assertEqual(table["index"].to_pylist(), list(range(8 * shard, 8 * shard + job.rows_of(shard))))
            self.assertIsNotNone(job.finished(shard))


class Machines(InAFolder):
    def test_a_kind_is_tuned_once_and_no_other_starts_with_it(self):
        images = write_pictures(self.folder / "images", 8)
        out = self.folder / "job"
        arguments = [*of_nano(images), "--out", out, "--shard-size", "4", "--batch", "4", "--threads", "1", "--runs", "1"]
        environment = {**os.environ, "REPLK_CACHE_DIR": str(self.folder / "users"), "REPLK_MAX_ISA": "avx2"}

        def plan(**other):
            done = subprocess.run(command("plan", *arguments, "--tune", "now", "--tune-budget", "0.01", "--json"), capture_output=True, text=True,
                                  env={**environment, **other})
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
        self.assertEqual([f.name for f in Wanted("stage4,top2,embedding").fields()], ["classes", "probabilities", "stage4", "embedding"])

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
                file.writelines(f"{names[i % 4] if i % 100 == 0 else f'nowhere/in/a/folder/of/photographs/{i:09}.jpg'}\n" for i in range(count))
            process = subprocess.Popen(
                command("run", *of_nano(self.folder / f"{count}.txt"), "--out", self.folder / f"job{count}", *QUICK),
                stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(process.returncode, 1)
            self.assertEqual(sum(Job.open(self.folder / f"job{count}").rows_of(s) for s in range(Job.open(self.folder / f"job{count}").shards)), count)
            peaks.append(usage.ru_maxrss / 1024)
        print(f"peak memory, MiB: {peaks[0]:.0f} with {few} inputs, {peaks[1]:.0f} with {many}", flush=True)
        self.assertLess(peaks[1], 300)
        self.assertLess(peaks[1] - peaks[0], 40)

    def test_a_listing_is_a_stream(self):
        listed = rows([str(write_pictures(self.folder / "images", 3))])
        self.assertEqual(next(iter(listed)).name, str(self.folder / "images" / "000" / "00000.png"))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    unittest.main()
