#!/usr/bin/env python3
"""replk eval: folders, IDX files, predictions that a later run goes on from; and the network that ships."""
import csv
import gzip
import json
import math
import os
import shutil
import struct
import unittest
from pathlib import Path

from replk import IMAGE, MODEL, ROOT, FolderTest, nano_shapes, png, run, safetensors

CLOTHES = ROOT / "examples" / "fashion-mnist"
# A layer of it takes microseconds: two threads would spend the time waiting for each other on a busy machine.
NANO = "--model", "replknet-nano", "--threads", "1"
GOLDEN = ROOT / "tests" / "cli" / "goldens" / "replknet-nano.json"


def idx(*shape, data=None):
    """An IDX file of bytes; zeros without data."""
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
    return header + (bytes(math.prod(shape)) if data is None else data)


class Datasets(FolderTest):
    def test_a_folder(self):
        for name, count in (("b", 2), ("a", 3)):
            (self.folder / name).mkdir()
            for i in range(count):
                shutil.copy(IMAGE, self.folder / name / f"{i}.png")
        (self.folder / "a" / "bad.jpg").write_bytes(b"no image")
        base = ("eval", "--model", MODEL, "--size", "64", "--images", self.folder)
        whole = self.json(*base, code=1)
        self.assertEqual((whole["images"], whole["failed"]), (5, 1))
        # All pictures are the same, so at most one of the two classes can be hit.
        self.assertIn(round(whole["top1"], 6), (0, 0.4, 0.6))
        self.assertGreaterEqual(whole["top5"], whole["top1"])
        done = [run(*base, "--shard", f"{i}/2", "--json") for i in (1, 2)]
        self.assertEqual(sorted(d.returncode for d in done), [0, 1])

    def class_folders(self):
        """The 200 clothes that ship, a folder a class, and the arguments that evaluate them."""
        with gzip.open(CLOTHES / "first200-images-idx3-ubyte.gz") as images, gzip.open(CLOTHES / "first200-labels-idx1-ubyte.gz") as labels:
            pixels, classes = images.read()[16:], labels.read()[8:]
        folder = self.folder / "clothes"
        for i, label in enumerate(classes):
            (folder / str(label)).mkdir(parents=True, exist_ok=True)
            rows = [bytes(v for v in pixels[784 * i + 28 * y :][:28] for _ in range(3)) for y in range(28)]
            (folder / str(label) / f"{i:03}.png").write_bytes(png(28, 28, rows))
        return folder, ("eval", *NANO, "--images", folder)

    def test_what_lies_beside_the_classes_changes_nothing(self):
        folder, base = self.class_folders()
        plain = self.json(*base)
        self.assertEqual((plain["images"], plain["passed_over"]), (200, 0))
        self.assertGreater(plain["top1"], 0.85)
        # As editors, file managers and people leave it.
        for hidden in (".ipynb_checkpoints", ".git/objects"):
            (folder / hidden).mkdir(parents=True)
            shutil.copy(IMAGE, folder / hidden / "x.png")
        for name in (".DS_Store", "readme.txt", "0/Thumbs.db", "1/._001.png", "2/photo.webp"):
            (folder / name).write_bytes(b"no image")
        (folder / "3" / ".cache").mkdir()
        shutil.copy(IMAGE, folder / "3" / ".cache" / "x.png")
        os.mkfifo(folder / "4" / "pipe.png")
        self.assertEqual({**self.json(*base), "images_per_second": 0}, {**plain, "images_per_second": 0, "passed_over": 6})
        self.assertIn("6 other files were passed over", self.succeed(*base))

    def test_a_class_without_images(self):
        folder, base = self.class_folders()
        (folder / "0a").mkdir()
        self.refuse(*base, names=[folder / "0a", "class", ".png"])
        (folder / "0a" / "notes.txt").write_bytes(b"no image")
        self.refuse(*base, names=[folder / "0a"])

    def test_links(self):
        folder, base = self.class_folders()
        plain = self.json(*base)
        (self.folder / "elsewhere").mkdir()
        (folder / "5").rename(self.folder / "elsewhere" / "five")
        (folder / "5").symlink_to("../elsewhere/five")                         # a class that is kept elsewhere
        (folder / "6" / "more").mkdir()
        for path in sorted((folder / "6").glob("*.png"))[:5]:
            path.rename(folder / "6" / "more" / path.name)
        (folder / "6" / "round").symlink_to(folder / "6")                      # a circle
        (folder / "6" / "more" / "back").symlink_to(folder / "6" / "more")     # and another
        again = self.json(*base)
        for key in ("images", "top1", "top5", "failed", "passed_over"):
            self.assertEqual(again[key], plain[key], key)
        (folder / "7" / "gone.png").symlink_to("nowhere.png")
        done = run(*base)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertIn("gone.png", done.stderr)

    def test_one_broken_image_of_a_thousand(self):
        (self.folder / "shirts").mkdir()
        picture = png(28, 28, [bytes(range(84))] * 28)
        for i in range(999):
            (self.folder / "shirts" / f"{i:03}.png").write_bytes(picture)
        broken = self.folder / "shirts" / "500 broken.png"
        broken.write_bytes(picture[:100])
        out = self.folder / "predictions.csv"
        done = run("eval", *NANO, "--images", self.folder, "--out", out, "--json")
        self.assertEqual(done.returncode, 1, done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual((result["images"], result["failed"]), (999, 1))
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn(str(broken), done.stderr)
        self.assertEqual(len(out.read_text().splitlines()), 2 + 999)

    def test_idx_files(self):
        # A network whose logits are the head's bias: 0 to 9, so class 9 comes first and 9 to 5 are the top five.
        weights = self.file("weights.safetensors", safetensors(nano_shapes(), given={"head.bias": list(range(10))}))
        labels = idx(3, data=bytes([9, 6, 1]))
        for name, shape, pack in (("x-images-idx3-ubyte", (3, 40, 40), bytes), ("y-images-idx4-ubyte", (3, 40, 40, 3), bytes),
                                  ("z-images-idx3-ubyte.gz", (3, 40, 40), gzip.compress)):
            self.file(name, pack(idx(*shape)))
            self.file(name.replace("images-idx3", "labels-idx1").replace("images-idx4", "labels-idx1"), pack(labels))
            result = self.json("eval", "--model", MODEL, "--size", "64", "--weights", weights, "--batch", "2", "--images",
                               self.folder / name)
            self.assertEqual((result["images"], result["failed"]), (3, 0))
            self.assertAlmostEqual(result["top1"], 1 / 3)
            self.assertAlmostEqual(result["top5"], 2 / 3)
            self.assertGreater(result["images_per_second"], 0)

    def test_hostile_compressed_idx_files(self):
        self.file("a-labels-idx1-ubyte.gz", gzip.compress(idx(3)))
        whole = gzip.compress(idx(3, 28, 28, data=bytes(range(196)) * 12))
        for content, names in ((whole[:-12], ()), (whole[:40], ()), (whole[:3], ("IDX",)),
                               (whole[:-8] + bytes(8), ()),  # another checksum
                               (gzip.compress(idx(3, 28, 28) + b"more"), ("more data",)),
                               (gzip.compress(idx(3, 28, 28)[:-1]), ("ends early",)),
                               (gzip.compress(idx(*[0xFFFFFFFF] * 3, data=b"")), ("IDX",)),
                               (gzip.compress(idx(3, 65535, 16384, data=b"")), ("ends early",))):
            images = self.file("a-images-idx3-ubyte.gz", content)
            self.refuse("eval", "--model", MODEL, "--size", "64", "--images", images, names=[images, *names])


class Predictions(FolderTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "predictions.csv"
        self.base = ("eval", *NANO, "--images", CLOTHES / "first200-images-idx3-ubyte.gz")

    def rows(self):
        with self.out.open(newline="") as file:
            self.assertTrue(file.readline().startswith("# replk eval --model replknet-nano"))
            return list(csv.DictReader(file))

    def test_a_run_goes_on_where_another_ended(self):
        plain = self.json(*self.base)
        whole = self.json(*self.base, "--out", self.out)
        self.assertEqual([whole[key] for key in ("images", "top1", "top5", "failed")],
                         [plain[key] for key in ("images", "top1", "top5", "failed")])
        content = self.out.read_bytes()
        self.assertEqual([int(row["index"]) for row in self.rows()], list(range(200)))
        # As a run that was killed leaves it: 100 images, and a line that was not finished.
        lines = content.splitlines(keepends=True)
        self.out.write_bytes(b"".join(lines[:102]) + lines[102][:-3])
        again = self.json(*self.base, "--out", self.out)
        self.assertEqual(self.out.read_bytes(), content)
        self.assertEqual((again["top1"], again["images"]), (whole["top1"], 200))
        # Nothing is left to do, and nothing changes.
        again = self.json(*self.base, "--out", self.out)
        self.assertEqual((again["top1"], again["images"], again["images_per_second"]), (whole["top1"], 200, 0))
        self.assertEqual(self.out.read_bytes(), content)

    def test_shards_make_the_whole(self):
        self.succeed(*self.base, "--out", self.out)
        whole = {row["index"]: row for row in self.rows()}
        self.out.unlink()
        parts = [self.json(*self.base, "--out", self.out, "--shard", f"{i}/3") for i in (1, 2, 3)]
        self.assertEqual([part["images"] for part in parts], [67, 67, 66])
        self.assertEqual({row["index"]: row for row in self.rows()}, whole)

    def test_predictions_of_something_else_are_refused(self):
        self.succeed(*self.base, "--shard", "1/100", "--out", self.out)
        good = self.out.read_text()
        self.refuse(*self.base, "--size", "32", "--out", self.out, names=[self.out, "another run", "32x32"])
        for line in ("200,200,0,0,0", "0,0,5,9,0", "0,1,9,9,0", "x", "1,1,2,2,-1", "1,1,2,2", "1,1,2,2,0,0", "-1,-1,2,2,0"):
            self.out.write_text(good + line + "\n")
            self.refuse(*self.base, "--out", self.out, names=[self.out, "line 5", line])
        self.refuse(*self.base, "--out", self.folder / "no" / "such.csv", names=["such.csv"])

    def test_names_with_commas_and_quotes(self):
        (self.folder / "set" / "a").mkdir(parents=True)
        name = 'one, "two".png'
        (self.folder / "set" / "a" / name).write_bytes(png(28, 28, [bytes(84)] * 28))
        base = ("eval", *NANO, "--images", self.folder / "set", "--out", self.out)
        self.succeed(*base)
        (row,) = self.rows()
        self.assertEqual(Path(row["image"]).name, name)
        self.assertEqual(self.json(*base)["images_per_second"], 0)


class Shipped(FolderTest):
    """The predictions of PyTorch on the same weights, written by tests/parity/nano.py."""

    def setUp(self):
        super().setUp()
        self.golden = json.loads(GOLDEN.read_text())

    def test_the_first_200_predictions_are_pytorchs(self):
        for model in ("replknet-nano", "replknet-nano:k=3"):
            out = self.folder / f"{len(model)}.csv"
            result = self.json("eval", "--model", model, "--threads", "1", "--images", CLOTHES / "first200-images-idx3-ubyte.gz", "--out", out)
            golden = self.golden[model]
            with out.open() as file:
                file.readline()
                self.assertEqual([int(row["predicted"]) for row in csv.DictReader(file)], golden["predicted"])
            self.assertAlmostEqual(result["top1"], golden["top1_of_200"])

    def test_pictures_without_any_other_file(self):
        for model in ("replknet-nano", "replknet-nano:k=3"):
            pictures = sorted(CLOTHES.glob("*.png"))
            result = self.json("classify", *pictures, "--model", model, "--threads", "1", "--top", "10", "--times")
            self.assertFalse(result["random_weights"])
            self.assertEqual(result["size"], "28x28")
            for row in result["images"]:
                index = int(Path(row["image"]).name[:4])
                wanted = self.golden[model]["probabilities"][str(index)]
                for guess in row["top"]:
                    self.assertAlmostEqual(guess["probability"], wanted[guess["class"]], delta=2e-5)
                self.assertEqual(row["top"][0]["class"], self.golden[model]["predicted"][index])
                self.assertIn(row["top"][0]["label"], self.golden["labels"])
                self.assertGreater(row["ms"], 0)

    def test_random_weights_where_they_are_asked_for(self):
        self.assertTrue(self.json("classify", IMAGE, "--model", "replknet-nano", "--seed", "1")["random_weights"])
        self.assertTrue(self.json("classify", IMAGE, "--model", "replknet-nano:k=5")["random_weights"])


if __name__ == "__main__":
    unittest.main()
