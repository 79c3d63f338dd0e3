#!/usr/bin/env python3
"""What the commands do when all is well: results, JSON and files."""
import json
import math
import os
import shutil
import struct
import subprocess
import unittest

from replk import (IMAGE, MODEL, PROGRAM, FolderTest, gradient, gradient_png, nano_shapes, normalised, passing_network,
                   read_safetensors, run, safetensors)


class Commands(FolderTest):
    def test_info(self):
        info = self.json("info")
        self.assertIn(info["isa"], ("portable", "avx2", "avx512"))
        self.assertGreaterEqual(info["cpu"]["cores"], 1)
        self.assertRegex(info["onednn"], r"^[3-9]\.\d+\.\d+$")
        self.assertIn("instruction set", self.succeed("info"))

    def test_caches_are_known_without_sys(self):
        hide = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount", "sh", "-c",
                'mount -t tmpfs none /sys && test ! -e /sys/devices && exec "$@"', "-"]
        try:
            subprocess.run([*hide, "true"], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.skipTest(f"/sys cannot be hidden here: {getattr(error, 'stderr', '') or error}")
        hidden = json.loads(subprocess.run([*hide, PROGRAM, "info", "--json"], check=True, capture_output=True).stdout)
        self.assertEqual(hidden["cpu"], self.json("info")["cpu"])

    def test_classify(self):
        result = self.json("classify", IMAGE, IMAGE, "--model", MODEL, "--size", "64", "--top", "3")
        self.assertEqual((result["model"], result["size"], result["random_weights"]), (MODEL, "64x64", True))
        first, second = result["images"]
        self.assertEqual(first, second)
        probabilities = [guess["probability"] for guess in first["top"]]
        self.assertEqual(len(probabilities), 3)
        self.assertEqual(probabilities, sorted(probabilities, reverse=True))
        self.assertTrue(all(0 < p <= 1 for p in probabilities))

    def test_all_probabilities_sum_to_one(self):
        result = self.json("classify", IMAGE, "--model", MODEL, "--size", "64x96", "--top", "1000000")
        self.assertEqual(result["size"], "64x96")
        self.assertTrue(math.isclose(sum(g["probability"] for g in result["images"][0]["top"]), 1, abs_tol=1e-6))

    def test_random_weights_are_said_plainly(self):
        text = self.succeed("classify", IMAGE, "--model", MODEL, "--size", "64")
        self.assertIn("random", text)
        self.assertIn("mean nothing", text)

    def test_labels(self):
        names = [f"label {i}" for i in range(10)]
        weights = self.folder / "weights.safetensors"
        weights.write_bytes(safetensors(nano_shapes(), {"labels": str(names).replace("'", '"')}))
        base = ("classify", IMAGE, "--model", MODEL, "--size", "64", "--weights", weights)
        for guess in self.json(*base)["images"][0]["top"]:
            self.assertEqual(guess["label"], f"label {guess['class']}")
        other = self.folder / "labels.txt"
        other.write_text("\n".join(f"other {i}" for i in range(10)) + "\n")
        for guess in self.json(*base, "--labels", other)["images"][0]["top"]:
            self.assertEqual(guess["label"], f"other {guess['class']}")

    def test_features(self):
        for source in ([IMAGE], ["--random"]):
            out = self.folder / "features.safetensors"
            self.succeed("features", *source, "--model", MODEL, "--size", "64x96", "--out", out)
            tensors, metadata = read_safetensors(out)
            self.assertIsNone(metadata)
            self.assertEqual({name: shape for name, (shape, _) in tensors.items()},
                             {"stage1": [1, 16, 16, 24], "stage2": [1, 32, 8, 12],
                              "stage3": [1, 64, 4, 6], "stage4": [1, 128, 2, 3]})
            for shape, data in tensors.values():
                values = struct.unpack(f"<{math.prod(shape)}f", data)
                self.assertTrue(all(map(math.isfinite, values)))
                self.assertGreater(max(values), min(values))
        self.assertEqual([p.name for p in self.folder.iterdir()], ["features.safetensors"])

    def passing_weights(self):
        path = self.folder / "passing.safetensors"
        path.write_bytes(safetensors(nano_shapes(), value=0.0, given=passing_network()))
        return path

    def test_features_are_the_pixels_in_their_places(self):
        height, width = 64, 96  # the picture's own size: the warp changes nothing
        picture, out = self.folder / "gradient.png", self.folder / "features.safetensors"
        picture.write_bytes(gradient_png(height, width))
        self.succeed("features", picture, "--model", MODEL, "--weights", self.passing_weights(),
                     "--size", f"{height}x{width}", "--out", out)
        tensors, _ = read_safetensors(out)
        for stage in range(4):
            step = 4 << stage
            (_, channels, h, w), data = tensors[f"stage{stage + 1}"]
            values = struct.unpack(f"<{channels * h * w}f", data)
            for y in range(h):
                for x in range(w):
                    expected = normalised(gradient(y * step, x * step)) + [0.0] * (channels - 3)
                    for c in range(channels):
                        self.assertAlmostEqual(values[(c * h + y) * w + x], expected[c], delta=1e-3,
                                               msg=f"stage{stage + 1} channel {c} row {y} column {x}")

    def test_classify_crops_the_middle_and_warps_other_sizes(self):
        weights, picture = self.passing_weights(), self.folder / "gradient.png"
        # 64 is cropped from a short side of int(64 / 0.875) = 73, the picture's own: rows from 4, columns from 22 on.
        # 64x96 of a 64x96 picture is the picture. The network averages every 32nd pixel.
        for height, width, size, top, left in ((73, 109, "64", 4, 22), (64, 96, "64x96", 0, 0)):
            picture.write_bytes(gradient_png(height, width))
            columns = 2 if size == "64" else 3
            pixels = [normalised(gradient(top + 32 * i, left + 32 * j)) for i in range(2) for j in range(columns)]
            logits = [sum(channel) / len(pixels) for channel in zip(*pixels)] + [0.0] * 7
            total = sum(map(math.exp, logits))
            result = self.json("classify", picture, "--model", MODEL, "--weights", weights, "--size", size, "--top", "10")
            guesses = result["images"][0]["top"]
            self.assertEqual([g["class"] for g in guesses], sorted(range(10), key=lambda c: (-logits[c], c)))
            for guess in guesses:
                self.assertAlmostEqual(guess["probability"], math.exp(logits[guess["class"]]) / total, delta=1e-4)

    def test_erf_of_a_network_that_sees_one_pixel(self):
        # The central pixel of the last map is the pixel of the input at 32, 32, in every colour and with the slope 1.
        picture, out = self.folder / "gradient.png", self.folder / "out" / "erf.png"
        out.parent.mkdir()
        for height, width, side in ((64, 64, 3), (64, 96, 2 * 16 + 1), (64, 40, 2 * 12 + 1)):
            picture.write_bytes(gradient_png(height, width))
            result = self.json("erf", "--model", MODEL, "--weights", self.passing_weights(), "--images", self.folder,
                               "--size", f"{height}x{width}", "--out", out, "--count", "1")
            self.assertEqual((result["model"], result["size"], result["images"], result["failed"]),
                             (MODEL, f"{height}x{width}", 1, 0))
            self.assertGreater(result["memory_bytes"], height * width * 3 * 4)
            self.assertEqual([area["t"] for area in result["areas"]], [0.2, 0.3, 0.5, 0.99])
            for area in result["areas"]:
                self.assertEqual(area["side"], side)
                # Of 64 x 40, columns from 8 on are within 12 of the centre.
                inside = side * min(side, width // 2 + side // 2 + 1, width)
                self.assertAlmostEqual(area["ratio"], inside / (height * width))
            written = out.read_bytes()
            self.assertTrue(written.startswith(b"\x89PNG"))
            wide, high = struct.unpack(">II", written[16:24])
            self.assertGreater(min(wide, high), 100)
            # The program reads what it wrote.
            self.succeed("features", out, "--model", MODEL, "--size", "64", "--out", self.folder / "f.safetensors")
            (self.folder / "f.safetensors").unlink()
            out.unlink()

    def test_erf_of_noise_and_of_an_idx_file(self):
        (self.folder / "x-images-idx3-ubyte").write_bytes(
            struct.pack(">BBBBIII", 0, 0, 8, 3, 3, 28, 28) + bytes(i % 251 for i in range(3 * 28 * 28)))
        (self.folder / "x-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 3) + bytes(3))
        for source in (("--random", "--seed", "3"), ("--images", self.folder / "x-images-idx3-ubyte")):
            base = ("erf", *source, "--model", MODEL, "--size", "64", "--out", self.folder / "erf.png", "--count", "2")
            result = self.json(*base)
            self.assertEqual((result["images"], result["random_weights"]), (2, True))
            sides = [area["side"] for area in result["areas"]]
            self.assertEqual(sides, sorted(sides))
            self.assertTrue(all(0 < area["ratio"] <= 1 for area in result["areas"]))
            self.assertEqual(self.json(*base), result, "the same again")
            text = self.succeed(*base)
            for part in ("random", "memory", "50%", "99%", "erf.png"):
                self.assertIn(part, text)

    def test_erf_of_a_folder_with_a_broken_image(self):
        (self.folder / "deep" / "deeper").mkdir(parents=True)
        for name in ("b.png", "deep/a.png", "deep/deeper/c.png"):
            shutil.copy(IMAGE, self.folder / name)
        (self.folder / "deep" / "bad.jpg").write_bytes(b"no image")
        (self.folder / "deep" / "notes.txt").write_bytes(b"no image")
        (self.folder / ".hidden").mkdir()
        shutil.copy(IMAGE, self.folder / ".hidden" / "a.png")
        (self.folder / "deep" / "round").symlink_to(self.folder)
        base = ("erf", "--model", MODEL, "--size", "64", "--images", self.folder, "--out", self.folder / "erf.out")
        done = run(*base)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn("bad.jpg", done.stderr)
        result = self.json(*base, code=1)
        self.assertEqual((result["images"], result["failed"], result["passed_over"]), (3, 1, 2), "notes.txt and erf.out")

    def test_bench_gradient(self):
        shapes = ("n1c8h9w9k5", "n2c8h9w10k5,3s2nchwbf16", "n1c3x2h9w9k3exact")
        rows = self.json("bench", "gradient", *shapes, "--threads", "1", "--seconds", "0")["rows"]
        self.assertEqual([row["shape"] for row in rows], list(shapes))
        for row in rows:
            for key in ("forward_ms", "input_gradient_ms", "weight_gradient_ms", "set_weights_ms", "checked_channels"):
                self.assertGreater(row[key], 0, key)
            self.assertLess(row["max_relative_error"], 1e-2 if "bf16" in row["shape"] else 2e-6)
            self.assertEqual(len(row["input_gradient_tilings"]), 4 if "s2" in row["shape"] else 1)
        self.assertIn("gradient of the weights", self.succeed("bench", "gradient", shapes[0], "--seconds", "0"))

    def test_bench_model(self):
        row = self.json("bench", "model", MODEL, "--size", "64", "--rounds", "3", "--profile", "--layers")
        for key in ("ms", "images_per_second", "large_depthwise_ms", "other_gmac", "peak_gflops", "first_result_ms", "peak_memory_bytes"):
            self.assertGreater(row[key], 0, key)
        self.assertEqual((row["model"], row["size"]), (MODEL, "64x64"))
        self.assertIn("large depthwise", [kind["kind"] for kind in row["profile"]])
        depthwise = [layer for layer in row["layers"] if layer["kind"] == "large depthwise"]
        self.assertEqual(len(depthwise), 5)


if __name__ == "__main__":
    unittest.main()
