#!/usr/bin/env python3
"""`--precision`, `replk quantize` and `replk info --weights`."""
import json
import struct
import unittest

from replk import IMAGE, MODEL, ROOT, FolderTest, read_safetensors

NANO = "replknet-nano"
IDX = ROOT / "examples" / "fashion-mnist"


class Precision(FolderTest):
    def test_a_precision_is_asked_and_said(self):
        for command in (["classify", IMAGE, "--model", MODEL, "--size", "64"],
                        ["features", IMAGE, "--model", MODEL, "--size", "64", "--out", self.folder / "f.safetensors"],
                        ["bench", "model", MODEL, "--size", "64", "--rounds", "1"]):
            self.assertEqual(self.json(*command)["precision"], "fp32")
            for precision in ("bf16", "int8"):
                self.assertEqual(self.json(*command, "--precision", precision)["precision"], precision)
            self.refuse(*command, "--precision", "fp16", names=["--precision", "fp16", "bf16x3"])

    def test_narrow_features_are_near_and_not_the_same(self):
        maps = {}
        for precision in ("fp32", "bf16", "int8"):
            out = self.folder / f"{precision}.safetensors"
            self.succeed("features", "--random", "--model", MODEL, "--size", "64", "--precision", precision, "--out", out)
            _, data = read_safetensors(out)[0]["stage4"]
            maps[precision] = struct.unpack(f"<{len(data) // 4}f", data)
        largest = max(map(abs, maps["fp32"]))
        for precision, limit in (("bf16", 1e-2), ("int8", 5e-2)):
            difference = max(abs(a - b) for a, b in zip(maps["fp32"], maps[precision])) / largest
            self.assertLess(difference, limit)
            self.assertGreater(difference, limit / 1000)

    def test_quantize_writes_a_file_that_runs_by_itself(self):
        out = self.folder / "nano-int8.safetensors"
        made = self.json("quantize", "--model", NANO, "--out", out)
        self.assertEqual((made["precision"], made["bytes"]), ("int8", out.stat().st_size))
        self.assertEqual({row["precision"] for row in made["layers"]}, {"int8", "fp32"})
        self.assertLess(out.stat().st_size, 0.4 * (ROOT / "models" / f"{NANO}.safetensors").stat().st_size)
        picture = sorted(IDX.glob("*.png"))[0]
        of_file = self.json("classify", picture, "--model", NANO, "--weights", out)
        at_load = self.json("classify", picture, "--model", NANO, "--precision", "int8")
        self.assertEqual(of_file["precision"], "int8")
        self.assertEqual(of_file["images"], at_load["images"])
        self.refuse("classify", picture, "--model", NANO, "--weights", out, "--precision", "bf16",
                    names=["bf16", "int8", out])
        self.refuse("quantize", "--model", NANO, "--weights", out, "--out", out, names=[out, "int8 already"])
        self.refuse("erf", "--model", NANO, "--random", "--count", "1", "--weights", out, "--size", "28",
                    "--out", self.folder / "erf.png", names=["int8", "fp32"])

    def test_layer_norms_that_were_trained(self):
        """convnextv2-mini ships: it knows its pictures, in every precision."""
        pictures = sorted(IDX.glob("*.png"))
        words = ["-".join(path.stem.split("-")[1:]) for path in pictures]  # 0000-ankle-boot.png
        for precision in ("fp32", "bf16", "int8"):
            images = self.json("classify", *pictures, "--model", "convnextv2-mini", "--precision", precision)["images"]
            found = [image["top"][0]["label"].lower().replace("/top", "").replace(" ", "-") for image in images]
            self.assertGreaterEqual(sum(map(str.__eq__, found, words)), len(pictures) - 2, precision)

    def test_info_of_a_file(self):
        out = self.folder / "nano-int8.safetensors"
        made = self.json("quantize", "--model", NANO, "--out", out)
        info = self.json("info", "--weights", out)
        self.assertEqual((info["model"], info["precision"], info["classes"]), (NANO, "int8", 10))
        self.assertEqual([(row["name"], row["precision"]) for row in info["layers"]],
                         [(row["name"], row["precision"]) for row in made["layers"]])
        self.assertIn("int8", self.succeed("info", "--weights", out))
        self.assertEqual(self.json("info", "--weights", ROOT / "models" / f"{NANO}.safetensors")["precision"], "fp32")
        self.refuse("info", "--weights", self.folder / "none.safetensors", names=["none.safetensors"])

    def test_calibration_with_images(self):
        out = self.folder / "nano-int8.safetensors"
        made = self.json("quantize", "--model", NANO, "--out", out, "--images", IDX, "--count", "4")
        self.assertEqual(made["images"], 4)
        self.assertEqual(self.json("info", "--weights", out)["calibration"], "images")
        self.refuse("quantize", "--model", NANO, "--out", out, "--images", self.folder / "none", names=["none"])

    def test_a_damaged_file_is_refused(self):
        out = self.folder / "nano-int8.safetensors"
        self.succeed("quantize", "--model", NANO, "--out", out)
        whole = out.read_bytes()
        length = struct.unpack("<Q", whole[:8])[0]
        header = json.loads(whole[8:8 + length])
        name = next(key for key in header if key.endswith(".multiplier"))
        begin = 8 + length + header[name]["data_offsets"][0]
        out.write_bytes(whole[:begin] + struct.pack("<f", float("nan")) + whole[begin + 4:])
        self.refuse("classify", IMAGE, "--model", NANO, "--weights", out, names=[name, "nan"])
        out.write_bytes(whole[:-1])
        self.refuse("classify", IMAGE, "--model", NANO, "--weights", out, names=[out])

    def test_tune_knows_narrow_layers(self):
        rows = self.json("tune", "--model", NANO, "--precision", "int8", "--budget", "0.05")["rows"]
        self.assertTrue(any("+int8" in row["shape"] for row in rows))
        self.refuse("tune", "n1c8h8w8k7", "--precision", "int8", names=["--precision"])


if __name__ == "__main__":
    unittest.main()
