#!/usr/bin/env python3
"""The package replk on numpy alone: results against plain sums in double, errors, threads, memory."""
import inspect
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

from needs import needs
from threads import on_four_threads

needs("numpy", "apt-get install python3-numpy")

import numpy as np  # noqa: E402
import replk  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLOTHES = ROOT / "examples" / "fashion-mnist" / "0000-ankle-boot.png"
NANO = ROOT / "models" / "replknet-nano.safetensors"


def depthwise(x, weights, bias, stride=1, dilation=1, pad=None):
    """Plain sums in double. x: [n, c, h, w]; weights: [c, kh, kw]."""
    kh, kw = weights.shape[1:]
    top, left = (dilation * (kh - 1) // 2, dilation * (kw - 1) // 2) if pad is None else (pad, pad)
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (top, top), (left, left)])
    rows = (padded.shape[2] - dilation * (kh - 1) - 1) // stride + 1
    columns = (padded.shape[3] - dilation * (kw - 1) - 1) // stride + 1
    y = np.zeros((*x.shape[:2], rows, columns))
    for a in range(kh):
        for b in range(kw):
            part = padded[:, :, a * dilation:, b * dilation:][:, :, : stride * rows : stride, : stride * columns : stride]
            y += weights[None, :, a, b, None, None] * part
    return y + (0 if bias is None else bias[None, :, None, None])


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gradients(x, weights, dy, stride=1, pad=0):
    """dx, dweights, dbias in double, of depthwise(x, weights, ...)."""
    kh, kw = weights.shape[1:]
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    dx, dw = np.zeros_like(padded), np.zeros(weights.shape)
    rows, columns = dy.shape[2:]
    for a in range(kh):
        for b in range(kw):
            part = np.s_[:, :, a : a + stride * (rows - 1) + 1 : stride, b : b + stride * (columns - 1) + 1 : stride]
            dx[part] += weights[None, :, a, b, None, None] * dy
            dw[:, a, b] = (padded[part] * dy).sum(axis=(0, 2, 3))
    return dx[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]], dw, dy.astype(np.float64).sum(axis=(0, 2, 3))


class DepthwiseTest(unittest.TestCase):
    def close(self, found, expected, bound=1e-5):
        self.assertEqual(found.shape, expected.shape)
        scale = np.abs(expected).max(axis=(0, 2, 3), keepdims=True)
        self.assertLessEqual((np.abs(found - expected) / scale).max(), bound)

    def test_channels_last_and_channels_first(self):
        x, w, b = random(1, 2, 19, 17, 20), random(2, 19, 13, 13), random(3, 19)
        expected = depthwise(x, w, b)
        first = replk.Depthwise("n2c19h17w20k13nchw", w, b)
        self.close(first(x), expected)
        last = replk.Depthwise("n2c19h17w20k13", w, b)
        y = last(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
        self.close(y.transpose(0, 3, 1, 2), expected)
        # Another order in memory gives the same.
        np.testing.assert_array_equal(last(x.transpose(0, 2, 3, 1)), y)

    def test_gradients(self):
        for k, stride, n in ((7, 1, 2), (5, 2, 3), (13, 1, 1)):
            x, w = random(1, n, 19, 17, 20), random(2, 19, k, k)
            layer = replk.Depthwise(f"n1c19h17w20k{k}s{stride}nchw", random(8, 19, k, k))
            dy = random(3, *layer(x).shape)
            layer.input_gradient(dy)  # prepared with the old weights
            layer.set_weights(w)
            dx, dw, db = gradients(x, w, dy, stride, k // 2)
            self.close(layer.input_gradient(dy), dx)
            found, bias = layer.weight_gradient(x, dy)
            np.testing.assert_allclose(found, dw, atol=2e-6 * np.abs(dw).max())
            np.testing.assert_allclose(bias, db, atol=1e-5 * np.abs(db).max())
            # Channels last, of what is not in C order; other weights before the first gradient.
            last = replk.Depthwise(f"n1c19h17w20k{k}s{stride}", random(8, 19, k, k))
            last.set_weights(w)
            self.close(last.input_gradient(dy.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), dx)
            found, _ = last.weight_gradient(x.transpose(0, 2, 3, 1), dy.transpose(0, 2, 3, 1))
            np.testing.assert_allclose(found, dw, atol=2e-6 * np.abs(dw).max())

    def test_gradients_of_branches(self):
        x, dy, w = random(1, 2, 9, 16, 16), random(2, 2, 9, 16, 16), [random(3, 9, 9, 9), random(4, 9, 3, 3)]
        layer = replk.Depthwise("n2c9h16w16k9,3nchw", w)
        big, small = gradients(x, w[0], dy, 1, 4), gradients(x, w[1], dy, 1, 1)
        self.close(layer.input_gradient(dy), big[0] + small[0])
        found, _ = layer.weight_gradient(x, dy)
        for mine, (_, expected, _) in zip(found, (big, small)):
            np.testing.assert_allclose(mine, expected, atol=2e-6 * np.abs(expected).max())

    def test_gradients_that_are_refused(self):
        layer = replk.Depthwise("n1c8h9w9k3+relu", random(1, 8, 3, 3))
        x = random(2, 1, 9, 9, 8)
        for call in (lambda: layer.input_gradient(x), lambda: layer.weight_gradient(x, x)):
            with self.assertRaisesRegex(replk.InvalidArgument, "activation"):
                call()
        layer = replk.Depthwise("n1c8h9w9k3", random(1, 8, 3, 3))
        for word, call in (
            ("shape", lambda: layer.input_gradient(x[:, 1:])),
            ("float64", lambda: layer.input_gradient(x.astype(np.float64))),
            ("images", lambda: layer.weight_gradient(x, np.concatenate([x, x]))),
        ):
            with self.assertRaisesRegex(replk.InvalidArgument, word):
                call()

    def test_branches_stride_dilation_and_epilogue(self):
        x = random(4, 1, 8, 21, 21)
        w = [random(5, 8, 9, 9), random(6, 8, 5, 5)]
        r = random(7, 1, 8, 21, 21)
        layer = replk.Depthwise("n1c8h21w21k9,5nchwnobias+relu+residual", w)
        expected = np.maximum(depthwise(x, w[0], None) + depthwise(x, w[1], None), 0) + r
        self.close(layer(x, residual=r), expected)
        into = r.copy()
        self.assertIs(layer(x, residual=into, out=into), into)
        self.close(into, expected)
        strided = replk.Depthwise("n1c8h21w21k5d2s2nchwnobias", w[1][:, None])  # PyTorch's shape of weights
        self.close(strided(x), depthwise(x, w[1], None, stride=2, dilation=2))

    def test_any_batch_runs_and_weights_change(self):
        x, w, v = random(20, 5, 9, 9, 6), random(21, 6, 7, 7), random(22, 6, 7, 7)
        layer = replk.Depthwise("n1c6h9w9k7nobias", w)
        many = layer(x)
        for i in range(5):
            np.testing.assert_array_equal(layer(x[i : i + 1]), many[i : i + 1])
        layer.set_weights(v)
        np.testing.assert_array_equal(layer(x), replk.Depthwise("n1c6h9w9k7nobias", v)(x))

    def test_channel_multiplier_and_layouts_apart(self):
        x, w = random(23, 1, 5, 8, 8), random(24, 10, 3, 3)
        y = replk.Depthwise("n1c5x2h8w8k3nchw>nhwcnobias", w)(x)
        self.close(y.transpose(0, 3, 1, 2), depthwise(np.repeat(x, 2, axis=1), w, None))

    def test_half_precision(self):
        x, w = random(8, 1, 16, 14, 14), random(9, 16, 7, 7)
        half = replk.Depthwise("n1c16h14w14k7nchwfp16nobias", w)
        y = half(x.astype(np.float16))
        self.assertEqual(y.dtype, np.float16)
        self.close(y.astype(np.float64), depthwise(x.astype(np.float16), w, None), 1e-3)
        bits = (x.view(np.uint32) >> 16).astype(np.uint16)  # truncated to bfloat16
        y = replk.Depthwise("n1c16h14w14k7nchwbf16nobias", w)(bits)
        truncated = (bits.astype(np.uint32) << 16).view(np.float32)
        self.close((y.astype(np.uint32) << 16).view(np.float32), depthwise(truncated, w, None), 8e-3)

    def test_threads_share_one_layer(self):
        x, w = random(10, 1, 28, 28, 64), random(11, 64, 13, 13)
        layer = replk.Depthwise("n1c64h28w28k13nobias", w, threads=1)
        expected, results = layer(x), [None] * 4

        def work(i):
            for _ in range(20):
                results[i] = layer(x)

        on_four_threads(work)
        for result in results:
            np.testing.assert_array_equal(result, expected)

    def refuse(self, kind, words, call):
        with self.assertRaises(kind) as caught:
            call()
        message = str(caught.exception)
        self.assertNotIn("\n", message)
        for word in words:
            self.assertIn(word, message)

    def test_wrong_input_is_named(self):
        w = random(12, 4, 3, 3)
        layer = replk.Depthwise("n1c4h5w5k3nobias", w)
        x = random(13, 1, 5, 5, 4)
        self.refuse(replk.InvalidArgument, ["kernel", "999"], lambda: replk.Depthwise("n1c1h5w5k999", random(1, 1, 999, 999)))
        self.refuse(ValueError, ["nonsense"], lambda: replk.Depthwise("nonsense", w))
        self.refuse(ValueError, ["weights[0]", "(4, 3, 4)", "(4, 3, 3)"],
                    lambda: replk.Depthwise("n1c4h5w5k3", random(1, 4, 3, 4)))
        self.refuse(ValueError, ["weights has 1 arrays", "2"], lambda: replk.Depthwise("n1c4h5w5k3,1", w))
        self.refuse(ValueError, ["bias", "(5,)", "(4,)"], lambda: replk.Depthwise("n1c4h5w5k3", w, random(1, 5)))
        self.refuse(ValueError, ["x", "(5, 5, 4)", "(1, 5, 5, 4)"], lambda: layer(x[0]))
        self.refuse(ValueError, ["x", "float64", "float32"], lambda: layer(x.astype(np.float64)))
        self.refuse(ValueError, ["residual is given"], lambda: layer(x, residual=x))
        self.refuse(ValueError, ["out", "overlaps"], lambda: layer(x, out=x))
        self.refuse(ValueError, ["out", "C order"], lambda: layer(x, out=np.empty((1, 4, 5, 5), np.float32).transpose(0, 2, 3, 1)))
        self.refuse(replk.InvalidArgument, ["tiling"], lambda: replk.Depthwise("n1c4h5w5k3", w, tiling="fastest"))


class ModelTest(unittest.TestCase):
    def test_classifies_as_the_program_does(self):
        network = replk.Model("replknet-nano", NANO)
        self.assertEqual(network.classes, 10)
        guesses = network.classify([CLOTHES])[0]
        self.assertEqual(guesses[0].label, "ankle boot")
        self.assertGreater(guesses[0].probability, 0.9)
        self.assertAlmostEqual(sum(g.probability for g in network.classify([CLOTHES], top=10)[0]), 1, places=6)

    def test_labels_are_read_by_the_program_s_rules(self):
        """convert.py writes JSON where lines would be taken for something else."""
        data = NANO.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        names = [f"[{i}]" for i in range(10)]
        header["__metadata__"]["labels"] = json.dumps(names)
        text = json.dumps(header).encode()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "nano.safetensors")
            path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
            network = replk.Model("replknet-nano", path)
        self.assertEqual([network.label(i) for i in range(10)], names)

    def test_converters_name_the_library_s_networks(self):
        from replk.convert.models import MODELS
        with self.assertRaises(replk.NotFound) as caught:
            replk.Model("nothing")
        known = str(caught.exception).partition("there are ")[2].split(", ")
        self.assertEqual({*MODELS, "replknet-test"}, set(known))

    def test_a_converted_file_is_loaded(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "nano.safetensors")
            made = replk.convert(NANO, path)
            self.assertEqual((made.model, made.left_out), ("replknet-nano", []))
            network, copy = replk.Model("replknet-nano", NANO), replk.Model("replknet-nano", path)
            np.testing.assert_array_equal(network.logits(network.read(CLOTHES)[None]), copy.logits(copy.read(CLOTHES)[None]))
            self.assertEqual(copy.label(0), network.label(0))
            with self.assertRaises(replk.BadFile):
                replk.convert(__file__, path)

    def test_pictures_in_memory_are_files(self):
        network = replk.Model("replknet-nano", NANO)
        picture = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
        pixels = network.read(picture, (32, 48))
        self.assertEqual(pixels.shape, (32, 48, 3))
        features = network.features(pixels[None])
        self.assertEqual([f.ndim for f in features], [4] * 4)
        self.assertEqual(network.logits(np.stack([pixels, pixels])).shape, (2, 10))
        with self.assertRaisesRegex(replk.InvalidArgument, "float32"):
            network.read(picture.astype(np.float32))

    def test_contents_are_files_and_outputs_are_chosen(self):
        network = replk.Model("replknet-nano", NANO)
        pixels = np.empty((2, 28, 28, 3), np.float32)
        self.assertIs(network.read(CLOTHES, out=pixels[0]).base, pixels)
        network.decode(CLOTHES.read_bytes(), "boot", out=pixels[1])
        np.testing.assert_array_equal(pixels[0], pixels[1])
        logits, third, first = network.outputs(pixels, logits=True, stages=[2, 0])
        np.testing.assert_array_equal(logits, network.logits(pixels))
        maps = network.features(pixels)
        np.testing.assert_array_equal(third, maps[2])
        np.testing.assert_array_equal(first, maps[0])
        self.assertEqual(network.feature_shape(2), third.shape[1:])
        for wrong in (lambda: network.read(CLOTHES, out=pixels[:, 0]), lambda: network.decode(b"", "boot", out=pixels[0, ::2])):
            with self.assertRaisesRegex(replk.InvalidArgument, "out"):
                wrong()
        with self.assertRaisesRegex(replk.BadFile, "boot: "):
            network.decode(CLOTHES.read_bytes()[:99], "boot")
        with self.assertRaises(replk.InvalidArgument):
            network.outputs(pixels, stages=[4])

    def test_errors_keep_their_kind(self):
        with self.assertRaises(replk.NotFound):
            replk.Model("replknet-99")
        with self.assertRaises(replk.NotFound):
            replk.Model("replknet-nano", "/nowhere/at/all.safetensors")
        with self.assertRaises(replk.BadFile):
            replk.Model("replknet-nano", __file__)
        with self.assertRaises(replk.BadFile):
            replk.Model("replknet-nano", NANO).read(__file__)


    def test_precision(self):
        fp32 = replk.Model("replknet-nano", NANO)
        self.assertEqual(fp32.precision, "fp32")
        pixels = fp32.read(CLOTHES)[None]
        expected = fp32.logits(pixels)
        for precision, bound in (("bf16", 1e-2), ("int8", 5e-2)):
            narrow = replk.Model("replknet-nano", NANO, precision=precision)
            self.assertEqual(narrow.precision, precision)
            self.assertLessEqual(np.abs(narrow.logits(pixels) - expected).max() / np.abs(expected).max(), bound)
        with self.assertRaisesRegex(replk.InvalidArgument, "fp64"):
            replk.Model("replknet-nano", precision="fp64")


class QuantizeTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name, "int8.safetensors")

    def test_the_file_is_a_network_in_int8(self):
        layers = replk.quantize("replknet-nano", NANO, self.out, threads=1)
        self.assertIn("int8", {layer.precision for layer in layers})
        self.assertGreater(max(layer.int8_error or 0 for layer in layers), 0)
        narrow, fp32 = replk.Model("replknet-nano", self.out), replk.Model("replknet-nano", NANO)
        self.assertEqual(narrow.precision, "int8")
        pixels = fp32.read(CLOTHES)[None]
        # As quantised while loading, and not as fp32.
        np.testing.assert_array_equal(narrow.logits(pixels), replk.Model("replknet-nano", NANO, precision="int8").logits(pixels))
        self.assertNotEqual(np.abs(narrow.logits(pixels) - fp32.logits(pixels)).max(), 0)

    def test_images_calibrate(self):
        replk.quantize("replknet-nano", str(NANO), str(self.out))
        norms = self.out.read_bytes()
        replk.quantize("replknet-nano", NANO, self.out, images=CLOTHES.parent, count=8, size=(28, 28))
        self.assertNotEqual(self.out.read_bytes(), norms)

    def test_what_is_wrong_is_named_by_its_kind(self):
        for kind, words, call in (
            (replk.NotFound, "replknet-99", lambda: replk.quantize("replknet-99", NANO, self.out)),
            (replk.NotFound, "/nowhere", lambda: replk.quantize("replknet-nano", "/nowhere/at.safetensors", self.out)),
            (replk.BadFile, "numpy_test", lambda: replk.quantize("replknet-nano", __file__, self.out)),
            (replk.InvalidArgument, "count", lambda: replk.quantize("replknet-nano", NANO, self.out, images=".", count=0)),
            (replk.InvalidArgument, "size", lambda: replk.quantize("replknet-nano", NANO, self.out, size=3)),
        ):
            with self.assertRaisesRegex(kind, words) as caught:
                call()
            self.assertNotIn("\n", str(caught.exception))
        self.assertFalse(self.out.exists())

    def test_without_the_program(self):
        with unittest.mock.patch.object(replk.program, "path", lambda: pathlib.Path("/nowhere/replk")):
            with self.assertRaisesRegex(replk.NotFound, "/nowhere/replk cannot be run"):
                replk.quantize("replknet-nano", NANO, self.out)
        with unittest.mock.patch.object(replk.program, "path", lambda: pathlib.Path("/bin/false")):
            with self.assertRaisesRegex(replk.Error, "ended with code 1"):
                replk.quantize("replknet-nano", NANO, self.out)


class ProcessTest(unittest.TestCase):
    def python(self, code):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_depthwise_layers_alone_load_no_onednn(self):
        code = """
import numpy as np, replk
replk.Depthwise("n1c8h9w9k5", np.ones((8, 5, 5), np.float32))(np.ones((1, 9, 9, 8), np.float32))
depthwise = open("/proc/self/maps").read()
replk.Model("replknet-nano", threads=1).logits(np.ones((1, 32, 32, 3), np.float32))
print("libdnnl" in depthwise, "libdnnl" in open("/proc/self/maps").read())
"""
        self.assertEqual(self.python(code).split(), ["False", "True"])

    def test_numpy_alone_is_imported(self):
        code = "import sys, replk; print([m for m in ('torch', 'onnx', 'onnxruntime', 'openvino', 'ray') if m in sys.modules])"
        self.assertEqual(self.python(code).strip(), "[]")


class TypesTest(unittest.TestCase):
    def test_all_that_is_public_is_typed(self):
        """py.typed says so: every parameter and result."""
        for name in replk.__all__:
            thing = getattr(replk, name)
            methods = [f for n, f in vars(thing).items() if not n.startswith("_") or n in ("__init__", "__call__")] \
                if inspect.isclass(thing) and thing.__module__ in ("replk.depthwise", "replk.model") else []
            for function in [thing] * inspect.isfunction(thing) + methods:
                function = getattr(function, "fget", None) or getattr(function, "__func__", function)
                if not inspect.isfunction(function):
                    continue
                signature = inspect.signature(function)
                with self.subTest(f"{name}.{function.__name__}"):
                    self.assertIsNot(signature.return_annotation, inspect.Signature.empty)
                    for p in signature.parameters.values():
                        if p.name not in ("self", "cls", "options"):
                            self.assertIsNot(p.annotation, inspect.Parameter.empty, p.name)


class MachineTest(unittest.TestCase):
    def test_the_machine(self):
        info = replk.cpu_info()
        self.assertIn(info.isa, ("portable", "avx2", "avx512"))
        self.assertGreaterEqual(info.cores, 1)
        self.assertEqual("avx2" in info.features, info.isa != "portable")
        self.assertGreaterEqual(replk.default_threads(), 1)
        self.assertRegex(replk.__version__, r"^\d+\.\d+\.\d+$")

    def test_tuning_gives_a_tiling_and_restores_the_mode(self):
        picks = replk.tune("n1c16h7w7k5", budget_seconds=0.05, threads=1)
        (shape, tiling), = picks.items()
        self.assertTrue(shape.startswith("n1c16h7w7k5"))
        self.assertEqual(replk.Depthwise.zeros(shape, threads=1).tiling, tiling)
        with self.assertRaisesRegex(replk.InvalidArgument, "sometimes"):
            replk.set_tuning("sometimes")


if __name__ == "__main__":
    unittest.main()
