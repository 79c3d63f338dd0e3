#!/usr/bin/env python3
"""What the package owns of the library: shared by threads, freed when it is dropped, never torn by an error."""
import gc
import pathlib
import unittest

from needs import needs
from threads import on_four_threads

needs("numpy", "apt-get install python3-numpy")

import numpy as np  # noqa: E402
import replk  # noqa: E402

NANO = pathlib.Path(__file__).resolve().parents[2] / "models" / "replknet-nano.safetensors"


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def resident():
    """Bytes of this process that are its own."""
    fields = pathlib.Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * 4096


class Threads(unittest.TestCase):
    def together(self, work):
        """What four threads get from work(i), which must raise nothing."""
        results = [None] * 4

        def caught(i):
            try:
                results[i] = work(i)
            except Exception as error:  # noqa: BLE001 - a thread's would only be printed
                results[i] = error

        on_four_threads(caught)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def test_gradients_that_all_ask_for_first(self):
        """Their plans are made at the first call, which four threads make at once."""
        w, x, dy = random(1, 32, 9, 9), random(2, 2, 20, 20, 32), random(3, 2, 20, 20, 32)
        shape = "n2c32h20w20k9nobias"
        alone = replk.Depthwise(shape, w, threads=1)
        dx, (dw, db) = alone.input_gradient(dy), alone.weight_gradient(x, dy)
        for _ in range(5):
            layer = replk.Depthwise(shape, w, threads=1)

            def work(i):
                if i % 2:
                    return layer.input_gradient(dy), layer.weight_gradient(x, dy)
                first = layer.weight_gradient(x, dy)
                return layer.input_gradient(dy), first

            for got_dx, (got_dw, got_db) in self.together(work):
                np.testing.assert_array_equal(got_dx, dx)
                np.testing.assert_array_equal(got_dw, dw)
                np.testing.assert_array_equal(got_db, db)

    def test_a_network_of_each_precision(self):
        """Sizes of their own and one that all share, planned when first met."""
        for precision in ("fp32", "bf16", "int8"):
            sides = (28, 32, 28, 36)
            pixels = [random(side, 1, side, side, 3) for side in sides]
            alone = replk.Model("replknet-nano", NANO, precision=precision, threads=1)
            expected = [alone.logits(x) for x in pixels]
            shared = replk.Model("replknet-nano", NANO, precision=precision, threads=1)
            found = self.together(lambda i: [shared.logits(pixels[i]) for _ in range(3)])
            for mine, one in zip(found, expected):
                for each in mine:
                    np.testing.assert_array_equal(each, one)

    def test_an_error_is_its_thread_s(self):
        """The library keeps the last error of each thread: none reads another's."""
        w = random(1, 8, 3, 3)

        def work(i):
            for n in range(100):
                threads = 2000 + 100 * i + n
                with self.assertRaisesRegex(replk.InvalidArgument, f"threads is {threads}"):
                    replk.Depthwise("n1c8h9w9k3", w, threads=threads)

        self.together(work)

    def test_what_one_drops_another_still_runs(self):
        """Layers share generated code, and a gradient its layer's packed weights."""
        w, dy = random(1, 32, 13, 13), random(2, 1, 28, 28, 32)
        shape = "n1c32h28w28k13nobias"
        expected = replk.Depthwise(shape, w, threads=1).input_gradient(dy)

        def work(_):
            for _ in range(10):
                layer = replk.Depthwise(shape, w, threads=1)
                found = layer.input_gradient(dy)
                gradients = layer._gradients
                del layer
                gc.collect()
                np.testing.assert_array_equal(found, expected)
                self.assertTrue(gradients.of_input())

        self.together(work)


class Memory(unittest.TestCase):
    def grows(self, make, count):
        """Bytes by which `count` more made and dropped objects leave the process larger."""
        for _ in range(8):
            make()
        gc.collect()
        before = resident()
        for _ in range(count):
            make()
        gc.collect()
        return resident() - before

    def test_layers_and_their_gradients(self):
        w, x = random(1, 256, 13, 13), random(2, 1, 14, 14, 256)

        def make():
            layer = replk.Depthwise("n1c256h14w14k13", w, threads=1)
            layer.input_gradient(x)
            layer.weight_gradient(x, x)

        self.assertLess(self.grows(make, 50), 50 * w.nbytes // 4)  # each packs at least its weights

    def test_networks(self):
        make = lambda: replk.Model("replknet-nano", NANO, threads=1)  # noqa: E731
        self.assertLess(self.grows(make, 40), 40 * make().weight_bytes // 4)

    def test_what_could_not_be_made(self):
        w = random(1, 256, 13, 13)

        def make():
            with self.assertRaises(replk.InvalidArgument):
                replk.Depthwise("n1c256h14w14k13", w, tiling="direct rows=999")
            layer = replk.Depthwise("n1c256h14w14k13+relu", w, threads=1)
            with self.assertRaises(replk.InvalidArgument):
                layer.input_gradient(random(2, 1, 14, 14, 256))  # the second plan of one handle
            with self.assertRaises(replk.NotFound):
                replk.Model("replknet-nano", NANO.with_name("none"))

        self.assertLess(self.grows(make, 50), 50 * w.nbytes // 4)


if __name__ == "__main__":
    unittest.main()
