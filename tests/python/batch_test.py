#!/usr/bin/env python3
"""replk.batch without an engine: results against replk.Model's, all kinds of inputs, processes that are killed."""
import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tarfile
import time
import unittest

from batch_case import LONG, NANO, QUICK, ROOT, InAFolder, command, of_nano, run, stamps
from pictures import picture, png, write_pictures

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import replk
from replk.batch import Job


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
        # The names of the classes travel with the numbers.
        metadata = pq.read_metadata(self.folder / "job" / "parts" / "part-000000.parquet").metadata
        self.assertEqual(metadata[b"replk.shape.stage2"].decode(), "x".join(map(str, maps[1].shape[1:])))
        self.assertEqual(json.loads(metadata[b"replk.labels"])[9], "ankle boot")

    def test_the_program_says_the_same(self):
        """Same pixels, same batch, same plans: the classes that `replk eval` keeps."""
        program = os.environ.get("REPLK_PROGRAM")
        if program is None:
            self.skipTest("REPLK_PROGRAM is not set: no program to compare with")
        for c in range(2):
            write_pictures(self.folder / "images" / f"class{c}", 10)
        found = self.job("job", self.folder / "images", "--want", "top1")
        predictions = self.folder / "predictions.csv"
        subprocess.run(
            [program, "eval", *of_nano("--images", self.folder / "images"), "--batch", "4", "--threads", "1", "--out", predictions],
            check=True, capture_output=True, env={**os.environ, "REPLK_TUNING": "cached"}
        )
        said = [line.split(",") for line in predictions.read_text().splitlines() if line and line[0].isdigit()]
        self.assertEqual(len(said), 20)
        self.assertEqual([int(line[3]) for line in said], [row[0] for row in found["classes"].to_pylist()])

    def test_every_kind_of_input_gives_the_same_bits(self):
        images = write_pictures(self.folder / "images", 13, {5})
        paths = sorted(images.rglob("*.png"))
        (self.folder / "list.txt").write_text("".join(f"{path.relative_to(self.folder)}\n" for path in paths))
        contents = [path.read_bytes() for path in paths]
        plain = pa.table({"id": range(13), "jpg": pa.array(contents, pa.binary())})
        pq.write_table(plain, self.folder / "plain.parquet", row_group_size=5)
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
        failed = [re.split("#|[.]tar/", row["input"])[0] for row in found if row["error"]]
        bad = collections.Counter(pathlib.Path(name).name for name in failed)
        self.assertEqual([bad[name] for name in ("noise.tar", "noise.parquet", "nulls.parquet", "all.jpg")], [1, 1, 2, 1])
        self.assertGreaterEqual(sum("cut" in row["input"] and row["error"] is not None for row in found), 1)
        for row in found:
            self.assertNotIn("\n", row["error"] or "")

    def test_a_table_that_breaks_in_the_middle(self):
        """Pages of one row group are overwritten: its rows are errors, those of the others are not."""
        contents = [png(picture(i)) for i in range(12)]
        path = self.folder / "t.parquet"
        table = pa.table({"jpg": pa.array(contents, pa.binary())})
        pq.write_table(table, path, row_group_size=4, compression="none", use_dictionary=False)
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
        others = ("--want", "logits"), ("--precision", "int8"), ("--shard-size", "9"), ("--size", "56"), ("--batch", "2")
        for option, value in others:
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
            (["threads", "3 x 2", "2"],
             ["run", *of_nano(images), "--out", self.folder / "c", "--threads", "3", "--runs", "2", "--cpus", "2"]),
            (["share", "3/2"], ["run", *of_nano(images), "--out", self.folder / "d", "--share", "3/2"]),
        ):
            self.refused(words, *arguments)
        # Nothing was done with the wrong option, so that the folder is free.
        self.refused(["int7"], "run", *of_nano(images), "--out", self.folder / "f", "--precision", "int7", *QUICK)
        self.assertEqual(run("run", *of_nano(images), "--out", self.folder / "f", *QUICK).returncode, 0)

    def test_damaged_parts(self):
        images = write_pictures(self.folder / "images", 30)
        found = self.job("job", images, "--shard-size", "8")
        job = Job.open(self.folder / "job")
        before = stamps(job.folder)
        with open(job.part(1), "r+b") as file:  # by the disk
            file.truncate(job.part(1).stat().st_size // 2)
        self.assertEqual(job.missing(), [1])
        self.assertTrue(self.job("job", images, "--shard-size", "8").equals(found))
        now = stamps(job.folder)
        self.assertEqual([name for name in before if now[name] != before[name]], [job.part(1).name])
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
                        early = chance.random() < 0.2
                        if not early:
                            self.await_part(job, before)
                        process.wait(chance.uniform(0, 0.3 if early else 0.2))
                    # Code 1 where some failed in this run: the last one may find nothing left to do.
                    finished = process.wait(None if done >= kills else 0) in (0, 1)
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

    def await_part(self, job, before):
        """Until the run has added a part."""
        end = time.monotonic() + 20
        while time.monotonic() < end and (not job.exists() or len(stamps(job)) == len(before)) and len(before) < 50:
            time.sleep(0.002)

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


if __name__ == "__main__":
    unittest.main()
