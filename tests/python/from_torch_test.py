#!/usr/bin/env python3
"""Model.from_torch: modules of this project's own definitions against themselves in float64, and what is refused."""
import pathlib
import sys
import unittest

from needs import needs

needs("torch", "REPLK_TEST_FRAMEWORKS=1 ./run test makes an environment with it")

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "parity"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

import definitions as d  # noqa: E402
import replk  # noqa: E402


class First(nn.Module):
    """The definitions give logits and maps; a framework's module gives one of both."""

    def __init__(self, module, which):
        super().__init__()
        self.model, self.which = module, which  # `model.` is a prefix that says no more than that

    def forward(self, x):
        given = self.model(x)[self.which]
        return given if self.which == 0 else tuple(given)


def sides(c):
    return c, 2 * c, 4 * c, 8 * c


def atto(**options):
    return d.ConvNeXt((2, 2, 6, 2), sides(40), (7,) * 4, **options)


def v2():
    return d.randomise(atto(grn=True, layer_scale=False), 3)


def pictures(side=64, count=2):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(2))


def last(pixels):
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def difference(found, expected):
    expected = expected.detach().numpy()
    return np.abs(found - expected).max() / np.abs(expected).max()


class FromTorch(unittest.TestCase):
    def refuse(self, *words, module, **options):
        with self.assertRaises(replk.InvalidArgument) as caught:
            replk.Model.from_torch(module, threads=1, **options)
        self.assertNotIn("\n", str(caught.exception))
        for word in words:
            self.assertIn(word, str(caught.exception))

    def test_logits_are_those_of_the_module_in_double(self):
        networks = {
            "convnextv2-a": v2(), "convnext-a": d.randomise(atto(), 1),
            "mobilenetv2": d.randomise(d.MobileNetV2((1, 2, 3, 4, 3, 3, 1), (16, 24, 32, 64, 96, 160, 320), (3,) * 7), 2),
            "unireplknet-a": d.randomise(d.UniRepLKNet((2, 2, 6, 2), sides(40), (3, 13, 13, 13)), 4),
            "replknet-nano:small=3": d.randomise(d.RepLKNet((1, 2, 1, 1), (24, 48, 96, 128), (13, 13, 7, 3), 3, classes=10,
                                                            feedforward=2, stem_strides=(2, 1)), 5),
        }
        for name, network in networks.items():
            with self.subTest(name):
                model = replk.Model.from_torch(First(network, 0), threads=1)
                self.assertEqual((model.name, model.precision), (name, "fp32"))
                found = model.logits(last(pictures()))
                with torch.no_grad():
                    expected = network.double()(pictures().double())[0]
                self.assertLessEqual(difference(found, expected), 1e-5)

    def test_a_backbone_gives_what_the_module_gives(self):
        network = d.randomise(atto(norms=True), 6)
        del network.norm, network.head  # a backbone's forward below needs neither
        with torch.no_grad():
            expected, x = [], pictures().double()
            network.double()
            for stage in range(4):
                x = network.stages[stage](network.downsample_layers[stage](x))
                expected.append(network.get_submodule(f"norm{stage}")(x))
        network.float()
        model = replk.Model.from_torch(network, threads=1, verify=False)
        self.assertEqual(model.classes, 0)
        for found, wanted in zip(model.features(last(pictures())), expected):
            self.assertLessEqual(difference(found, wanted), 1e-5)

    def test_the_module_is_left_as_it_is(self):
        network = First(v2(), 0).train()
        network.model.stages[1].eval()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        modes = [part.training for part in network.modules()]
        model = replk.Model.from_torch(network, "bf16", threads=1)
        self.assertEqual(model.precision, "bf16")
        self.assertEqual([part.training for part in network.modules()], modes)
        for name, tensor in network.state_dict().items():
            self.assertTrue(torch.equal(tensor, before[name]), name)
        expected = replk.Model.from_torch(network, threads=1).logits(last(pictures()))
        found = model.logits(last(pictures()))
        self.assertFalse(np.array_equal(found, expected))
        self.assertLessEqual(difference(found, torch.from_numpy(expected)), 2e-2)
        with torch.no_grad():  # weights as they were when it was loaded
            network.model.head.bias += 1
        np.testing.assert_array_equal(model.logits(last(pictures())), found)

    def test_weights_of_half_precision(self):
        for dtype in (torch.bfloat16, torch.float16):
            network = First(v2(), 0).to(dtype)
            model = replk.Model.from_torch(network, threads=1)
            with torch.no_grad():
                expected = network.double()(pictures().double())
            self.assertLessEqual(difference(model.logits(last(pictures())), expected), 1e-5)

    def test_epsilons(self):
        # Of batch norms and of the last norm they are allowed for, of others refused.
        network = d.randomise(d.UniRepLKNet((2, 2, 6, 2), sides(40), (3, 13, 13, 13)), 4)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = 0.1
        network.norm.eps = 0.5
        model = replk.Model.from_torch(First(network, 0), threads=1)
        with torch.no_grad():
            expected = network.double()(pictures().double())[0]
        self.assertLessEqual(difference(model.logits(last(pictures())), expected), 1e-5)
        other = v2()
        other.stages[2][1].norm.eps = 1e-5
        self.refuse("model.stages.2.1.norm", "1e-05", module=First(other, 0))

    def test_what_computes_something_else_is_refused(self):
        other = First(v2(), 0)
        other.register_forward_pre_hook(lambda module, given: (given[0].flip(3),))
        self.refuse("logits", "convnextv2-a", "computes something else", module=other)
        stride = First(v2(), 0)
        stride.model.stages[0][0].dwconv.padding_mode = "circular"
        stride.model.stages[0][0].dwconv._reversed_padding_repeated_twice = [3] * 4
        self.refuse("computes something else", module=stride)
        replk.Model.from_torch(other, threads=1, verify=False)

    def test_what_is_no_network_is_refused(self):
        self.refuse("int", module=3)
        self.refuse("module Linear", module=nn.Linear(3, 3))
        self.refuse("depths and channels", module=First(d.randomise(
            d.ConvNeXt((1, 1, 2, 1), (8, 8, 8, 8), (7,) * 4), 1), 0))
        patches = First(v2(), 0)
        patches.model.downsample_layers[0][0] = nn.Conv2d(3, 40, 2, 2)
        self.refuse("module First", "downsample_layers.0.0.weight", "[40, 3, 2, 2]", module=patches)
        lacking = First(v2(), 0)
        lacking.model.stages[1][1].norm = nn.Identity()
        self.refuse("stages.1.1.norm.weight", module=lacking)
        more = First(v2(), 0)
        more.head = nn.Linear(3, 3)
        self.refuse("head.weight", module=more)
        with torch.device("meta"):
            self.refuse("meta", module=First(atto(), 0))
        self.refuse("fp64", module=First(v2(), 0), precision="fp64")


if __name__ == "__main__":
    torch.set_num_threads(1)
    unittest.main()
