#!/usr/bin/env python3
"""What the program says about wrong use and bad input: one line that names file, field, value and range; exit code 2."""
import struct
import unittest

from replk import IMAGE, MODEL, FolderTest, ProgramTest, nano_shapes, png, run, safetensors


class Usage(ProgramTest):
    def test_no_command(self):
        self.refuse(names=["replk --help"])

    def test_unknown_command_and_option(self):
        self.refuse("frobnicate", names=["frobnicate"])
        self.refuse("info", "--frobnicate", names=["--frobnicate", "replk info --help"])
        self.refuse("bench", names=["replk bench --help"])
        self.refuse("bench", "everything", names=["everything"])

    def test_missing_arguments(self):
        self.refuse("classify", "--model", MODEL, names=["image", "replk classify --help"])
        self.refuse("classify", IMAGE, names=["--model"])
        self.refuse("features", "--random", "--model", MODEL, names=["--out"])
        self.refuse("features", "--model", MODEL, "--out", "x", names=["--random"])
        self.refuse("eval", "--model", MODEL, names=["--images"])
        self.refuse("erf", "--model", MODEL, "--images", ".", names=["--out", "replk erf --help"])
        self.refuse("erf", "--model", MODEL, "--out", "x", names=["--images", "--random"])
        self.refuse("erf", "--model", MODEL, "--out", "x", "--images", ".", "--random", names=["--images", "--random"])

    def test_bad_sizes(self):
        for size in ("0", "15", "16385", "x", "224x", "x224", "224x224x3", "-224", "224.5", "99999999999", "224x15", " "):
            self.refuse("classify", IMAGE, "--model", MODEL, f"--size={size}", names=["--size", "16..16384"])
        for size in ("31", "224x31", "31x224"):
            self.refuse("classify", IMAGE, "--model", MODEL, f"--size={size}", names=["--size", "32..16384", MODEL])

    def test_bad_numbers(self):
        self.refuse("classify", IMAGE, "--model", MODEL, "--top", "0", names=["--top"])
        self.refuse("classify", IMAGE, "--model", MODEL, "--threads", "-1", names=["--threads"])
        self.refuse("bench", "model", MODEL, "--batch", "0", names=["--batch"])
        self.refuse("bench", "model", MODEL, "--batch", "many", names=["--batch"])
        self.refuse("erf", "--model", MODEL, "--random", "--out", "x", "--count", "0", names=["--count"])
        for shard in ("0/4", "5/4", "1/0", "1", "1/2/3", "a/b"):
            self.refuse("eval", "--model", MODEL, "--images", ".", "--shard", shard, names=["--shard", "I/N"])

    def test_gradients_without_an_epilogue(self):
        for more, name in (("+relu", "activation"), ("+scale", "scale"), ("+residual", "residual")):
            self.refuse("bench", "gradient", "n1c8h9w9k3", "n1c8h9w9k3" + more, names=[name, "n1c8h9w9k3" + more])
        self.refuse("bench", "gradient", "n1c8h9w9k99", names=["99"])
        self.refuse("bench", "gradient", names=["shape"])

    def test_unknown_model(self):
        self.refuse("classify", IMAGE, "--model", "resnet-50", names=["resnet-50", "replknet-31b"])
        self.refuse("bench", "model", "replknet-31b:k=2,2,2,2", names=["k=2,2,2,2"])

    def test_help_everywhere(self):
        for command in ((), ("info",), ("classify",), ("features",), ("eval",), ("erf",), ("bench",), ("bench", "model"),
                        ("bench", "gradient")):
            text = self.succeed(*command, "--help")
            self.assertIn("Usage: replk", text)
            self.assertTrue(command in ((), ("bench",)) or "--json" in text, command)


class BadFiles(FolderTest):
    def refuse_weights(self, content, *names):
        path = self.file("weights.safetensors", content)
        self.refuse("classify", IMAGE, "--model", MODEL, "--size", "64", "--weights", path, names=[path, *names])

    def refuse_image(self, name, content, *names):
        path = self.file(name, content)
        done = run("classify", path, "--model", MODEL, "--size", "64")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for part in (path, *names):
            self.assertIn(str(part), done.stderr)
        rows = self.json("classify", path, "--model", MODEL, "--size", "64", code=2)["images"]
        self.assertEqual(f"replk: {rows[0]['error']}\n", done.stderr)

    def test_weights_that_are_none(self):
        self.refuse_weights(b"")
        self.refuse_weights(b"garbage " * 50)
        self.refuse_weights(bytes(range(256)) * 10)
        self.refuse("classify", IMAGE, "--model", MODEL, "--weights", self.folder / "none", names=["none"])
        self.refuse("classify", IMAGE, "--model", MODEL, "--weights", self.folder, names=[self.folder])

    def test_truncated_weights(self):
        whole = safetensors(nano_shapes())
        for length in (1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
            self.refuse_weights(whole[:length])
        self.refuse_weights(whole + b"more")

    def test_header_of_3_gigabytes(self):
        self.refuse_weights(struct.pack("<Q", 3 << 30) + b"{" + b" " * 1000, str(3 << 30))
        self.refuse_weights(struct.pack("<Q", (1 << 64) - 1) + b"{}")

    def test_weight_of_the_wrong_shape(self):
        shapes = nano_shapes()
        shapes["stages.1.blocks.0.large_kernel.lkb_origin.conv.weight"] = (32, 1, 27, 27)
        self.refuse_weights(safetensors(shapes), "stages.1.blocks.0.large_kernel", "27", "29")

    def test_missing_key(self):
        shapes = nano_shapes()
        del shapes["stages.2.blocks.3.pw2.conv.weight"]
        self.refuse_weights(safetensors(shapes), "stages.2.blocks.3.pw2")

    def test_weights_that_are_not_numbers(self):
        path = self.file("nan.safetensors", safetensors(nano_shapes(), value=float("nan")))
        done = run("classify", IMAGE, "--model", MODEL, "--size", "64", "--weights", path)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("finite", done.stderr)

    def test_labels(self):
        path = self.file("weights.safetensors", safetensors(nano_shapes()))
        few = self.file("few.txt", b"cat\ndog\n")
        wrong = self.file("wrong.json", b"[1, 2]")
        base = ("classify", IMAGE, "--model", MODEL, "--size", "64", "--weights", path, "--labels")
        self.refuse(*base, few, names=[few, "labels", "2", "10"])
        self.refuse(*base, wrong, names=[wrong, "labels"])
        self.refuse(*base, self.folder / "none.txt", names=["none.txt"])

    def test_images_that_are_none(self):
        self.refuse_image("text.jpg", b"Just a text.\n", "JPEG", "4a 75 73 74")
        self.refuse_image("empty.png", b"", "empty")
        self.refuse_image("short.png", IMAGE.read_bytes()[:1000], "ends early")
        self.refuse_image("bad.jpg", b"\xff\xd8\xff\xe0" + bytes(100))

    def test_image_that_is_too_large(self):
        self.refuse_image("large.png", png(60000, 60000), "60000x60000", "1..16384")
        self.refuse_image("area.png", png(16000, 16000), "16000x16000", "67108864")

    def test_one_bad_image_of_three(self):
        bad = self.file("bad.png", b"no image")
        rows = self.json("classify", IMAGE, bad, IMAGE, "--model", MODEL, "--size", "64", code=1)["images"]
        self.assertEqual([row["image"] for row in rows], [str(IMAGE), str(bad), str(IMAGE)])
        self.assertEqual([("top" in row, "error" in row) for row in rows], [(True, False), (False, True), (True, False)])

    def test_output_that_cannot_be_written(self):
        out = self.folder / "no" / "such" / "folder.safetensors"
        self.refuse("features", "--random", "--model", MODEL, "--size", "64", "--out", out, names=[out])

    def test_erf(self):
        base = ("erf", "--model", MODEL, "--size", "64")
        out = self.folder / "erf.png"
        self.refuse(*base, "--out", out, "--images", self.folder / "none", names=["none"])
        self.refuse(*base, "--out", out, "--images", self.folder, names=[self.folder, ".png"])
        nowhere = self.folder / "no" / "such" / "folder.png"
        self.refuse(*base, "--out", nowhere, "--random", "--count", "1", names=[nowhere])
        nan = self.file("nan.safetensors", safetensors(nano_shapes(), value=float("nan")))
        done = run(*base, "--out", out, "--random", "--count", "1", "--weights", nan)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("finite", done.stderr)
        # All zero: the centre depends on nothing.
        zero = self.file("zero.safetensors", safetensors(nano_shapes(), value=0.0))
        self.refuse(*base, "--out", out, "--random", "--count", "1", "--weights", zero, names=["depends on no pixel"])
        self.assertFalse(out.exists())

    def test_datasets(self):
        base = ("eval", "--model", MODEL, "--size", "64", "--images")
        self.refuse(*base, self.folder / "none-images-idx3-ubyte", names=["none-images-idx3-ubyte"])
        self.refuse(*base, self.folder, names=[self.folder])
        self.refuse(*base, self.file("picture.png", b"x"), names=["picture.png"])
        self.file("a-labels-idx1-ubyte", struct.pack(">BBBBI", 0, 0, 8, 1, 3) + bytes(3))
        images = self.file("a-images-idx3-ubyte", struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 4, 4) + bytes(32))
        self.refuse(*base, images, names=[images, "2 images", "3 labels"])
        images = self.file("a-images-idx3-ubyte", struct.pack(">BBBBIII", 0, 0, 8, 3, 3, 4, 4) + bytes(32))
        self.refuse(*base, images, names=[images, "file size"])
        huge = self.file("a-images-idx3-ubyte", struct.pack(">BBBBIII", 0, 0, 8, 3, *[0xFFFFFFFF] * 3))
        self.refuse(*base, huge, names=[huge, "IDX"])


if __name__ == "__main__":
    unittest.main()
