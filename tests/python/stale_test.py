#!/usr/bin/env python3
"""Plans of replk.torch are kept from call to call: none may outlive the values it was made from."""
import copy
import pickle
import unittest

from threads import on_four_threads
from torch_case import FORM, exact

import replk
import torch
from replk.torch import DepthwiseConv2d, clear_plans, depthwise_conv2d
from replk.torch._layer import pack
from torch import nn


class Stale(unittest.TestCase):
    """A plan must not outlive the values it was made from."""

    def check(self, change, channels=48):
        layer = DepthwiseConv2d(channels, 13, padding=6)
        x = torch.randn(1, channels, 20, 20)
        with torch.no_grad():
            layer(x)
            change(layer)
            expected = exact(x, layer.weight, layer.bias, 1, 6, 1)
            self.assertLessEqual(((layer(x) - expected).abs().max() / expected.abs().max()).item(), 5e-6)

    def test_in_place(self):
        self.check(lambda layer: layer.weight.mul_(2))

    def test_data_copy(self):
        self.check(lambda layer: layer.weight.data.copy_(torch.randn_like(layer.weight)))

    def test_moving_average(self):
        self.check(lambda layer: layer.weight.data.lerp_(torch.randn_like(layer.weight), 0.01))

    def test_load_state_dict(self):
        self.check(lambda layer: layer.load_state_dict(DepthwiseConv2d(48, 13, padding=6).state_dict()))

    def test_new_parameter(self):
        self.check(lambda layer: setattr(layer, "weight", nn.Parameter(torch.randn(48, 1, 13, 13))))

    def test_bias(self):
        self.check(lambda layer: layer.bias.data.add_(1))

    def test_of_large_weights_one_value(self):
        """Too large to be compared whole: PyTorch counts this change."""
        self.check(lambda layer: layer.weight[101, 0, 5, 7].add_(50), channels=128)

    def test_of_large_weights_the_last_channels(self):
        """PyTorch does not count this one: samples lie over all of them."""
        self.check(lambda layer: layer.weight.data[-8:].zero_(), channels=128)

    def test_reparameterised(self):
        """As UniRepLKNet merges branches: the parameter stays, its tensor is another, and the old one's memory is free."""

        def merge(layer):
            layer.weight.data = layer.weight.data + nn.functional.pad(torch.randn(48, 1, 5, 5), (4, 4, 4, 4))
            layer.bias.data = layer.bias.data + 1

        self.check(merge)

    def test_state_dict_that_is_assigned(self):
        self.check(lambda layer: layer.load_state_dict(DepthwiseConv2d(48, 13, padding=6).state_dict(), assign=True))

    def test_averaged_model(self):
        layer = DepthwiseConv2d(16, 7, padding=3)
        average = torch.optim.swa_utils.AveragedModel(layer, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
        x = torch.randn(1, 16, 9, 9)
        with torch.no_grad():
            for _ in range(3):
                layer.weight.add_(torch.randn_like(layer.weight))
                average.update_parameters(layer)
                for module in (layer, average.module):
                    expected = exact(x, module.weight, module.bias, 1, 3, 1)
                    torch.testing.assert_close(module(x).double(), expected, atol=1e-4, rtol=0)

    def test_another_type_and_mode(self):
        self.check(lambda layer: (layer.train(), layer.weight.data.neg_(), layer.eval()))
        layer, x = DepthwiseConv2d(8, 7, padding=3), torch.randn(1, 8, 9, 9)
        with torch.no_grad():
            layer(x)
            expected = exact(x.bfloat16(), layer.to(torch.bfloat16).weight, layer.bias, 1, 3, 1)
            torch.testing.assert_close(layer(x.bfloat16()).double(), expected, atol=3e-2, rtol=0)

    def test_memory_that_another_weight_had(self):
        """A parameter that died, and one of as many changes at the same place."""
        x, places = torch.randn(1, 16, 9, 9), set()
        for _ in range(8):
            weight = torch.randn(16, 1, 7, 7)
            places.add(weight.data_ptr())
            torch.testing.assert_close(depthwise_conv2d(x, weight, padding=3).double(), exact(x, weight, None, 1, 3, 1),
                                       atol=1e-4, rtol=0)
            del weight
        self.assertLess(len(places), 8, "no address was used twice: nothing was tested")

    def test_more_layers_than_plans(self):
        """The 256 plans used last are kept; what was forgotten is made again."""
        x, weight = torch.randn(1, 2, 3, 300), torch.randn(2, 1, 3, 3)
        for _ in range(2):
            for width in range(3, 270):
                y = depthwise_conv2d(x[..., :width], weight, padding=1)
            torch.testing.assert_close(y.double(), exact(x[..., :width], weight, None, 1, 1, 1), atol=1e-5, rtol=0)
        clear_plans()

    def test_workers_of_a_data_loader(self):
        """Processes forked with plans that the parent has made, and used by several threads."""
        layer, threads = DepthwiseConv2d(32, 13, padding=6), torch.get_num_threads()
        images = torch.randn(8, 32, 28, 28)

        class Features(torch.utils.data.Dataset):
            def __len__(self):
                return len(images)

            @torch.no_grad()
            def __getitem__(self, index):
                return layer(images[index : index + 1])[0]

        torch.set_num_threads(2)
        try:
            expected = Features()[0], layer(images).detach()
            for weights in ("as the parent had them", "changed"):
                loader = torch.utils.data.DataLoader(Features(), batch_size=2, num_workers=2, timeout=120)
                torch.testing.assert_close(torch.cat(list(loader)), expected[1], msg=weights)
                with torch.no_grad():
                    layer.weight.mul_(2)
                    expected = None, layer(images)
        finally:
            torch.set_num_threads(threads)

    def test_threads_that_meet_changes(self):
        """Several threads run modules of one shape while each changes its own weights."""
        failures = []

        def work(seed):
            with torch.no_grad():
                g = torch.Generator().manual_seed(seed)
                layer, x = DepthwiseConv2d(8, 7, padding=3), torch.randn(1, 8, 9, 9, generator=g)
                for _ in range(20):
                    layer.weight.copy_(torch.randn(8, 1, 7, 7, generator=g))
                    error = (layer(x) - exact(x, layer.weight, layer.bias, 1, 3, 1)).abs().max().item()
                    if error > 1e-4:
                        failures.append((seed, error))

        on_four_threads(work)
        self.assertEqual(failures, [])

    def test_inference_tensors(self):
        with torch.inference_mode():
            x, weight = torch.randn(1, 8, 9, 9), torch.randn(8, 1, 5, 5)
            depthwise_conv2d(x, weight, padding=2)
            weight.mul_(3)
            expected = exact(x, weight, None, 1, 2, 1)
            self.assertLessEqual((depthwise_conv2d(x, weight, padding=2) - expected).abs().max().item(), 1e-4)

    def test_copies_are_layers_of_their_own(self):
        layer = DepthwiseConv2d(8, 7, padding=3)
        x = torch.randn(1, 8, 9, 9)
        y = layer(x)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            torch.testing.assert_close(other(x), y)
            other.weight.data.zero_()
            torch.testing.assert_close(layer(x), y)

    def test_threads_on_one_module(self):
        layer, results = DepthwiseConv2d(32, 13, padding=6), [None] * 4
        x = torch.randn(1, 32, 28, 28)

        def work(i):
            with torch.no_grad():
                for _ in range(20):
                    results[i] = layer(x)

        on_four_threads(work)
        with torch.no_grad():
            for result in results:
                torch.testing.assert_close(result, layer(x))
        clear_plans()

class Shared(unittest.TestCase):
    """A layer and the gradient of its input share one packing of the weights: each must see those of its own call."""

    def setUp(self):
        clear_plans()
        self.layer = DepthwiseConv2d(32, 13, padding=6)
        self.x = torch.randn(2, 32, 14, 14).contiguous(memory_format=torch.channels_last).requires_grad_()

    def step(self, between=lambda: None):
        """dx of ours and its definition, with something in between."""
        y = self.layer(self.x)
        between()
        expected = torch.nn.functional.grad.conv2d_input(
            self.x.shape, self.layer.weight.detach().double(), torch.ones_like(y).double(), padding=6, groups=32)
        (dx,) = torch.autograd.grad(y.sum(), self.x)
        self.assertLessEqual(((dx - expected).abs().max() / expected.abs().max()).item(), 5e-6)

    def test_steps(self):
        for _ in range(3):
            self.step()
            with torch.no_grad():
                self.layer.weight.add_(torch.randn_like(self.layer.weight))

    def test_weights_that_PyTorch_does_not_count(self):
        """Others between the passes: the gradient is of those that are there, as conv2d's would be."""
        self.step()
        self.step(lambda: self.layer.weight.data.mul_(3))
        self.step(lambda: self.layer.weight.data.copy_(torch.randn(32, 1, 13, 13)))

    def test_others_for_a_while(self):
        """As an average's weights are swapped in for a look at them, and back, with a pass of theirs."""

        def look():
            kept = self.layer.weight.data.clone()
            self.layer.weight.data.copy_(torch.randn_like(kept))
            with torch.no_grad():
                self.layer(self.x)
            self.layer.weight.data.copy_(kept)

        self.step()
        self.step(look)
        self.step(look)

    def test_plans_that_are_forgotten(self):
        self.step(clear_plans)
        self.step()

    def test_any_dy(self):
        """More formats of dy than plans of a layer, again and again."""
        weight = self.layer.weight.detach().double()
        for _ in range(2):
            for gap in range(7):
                wide = torch.randn(2, 14, 14, 32 + gap)[..., :32].permute(0, 3, 1, 2)
                y = self.layer(self.x)
                (dx,) = torch.autograd.grad(y, self.x, wide)
                expected = torch.nn.functional.grad.conv2d_input(self.x.shape, weight, wide.double(), padding=6, groups=32)
                self.assertLessEqual(((dx - expected).abs().max() / expected.abs().max()).item(), 5e-6)

    def test_a_bias_that_changes_between(self):
        y = self.layer(self.x)
        with torch.no_grad():
            self.layer.bias.add_(1)
        (dx,) = torch.autograd.grad(y.sum(), self.x)
        y = self.layer(self.x)
        torch.testing.assert_close(torch.autograd.grad(y.sum(), self.x)[0], dx)

    def test_threads(self):
        """Steps of modules of one shape, each of its own weights, which change."""
        failures = []

        def work(seed):
            layer, x = DepthwiseConv2d(8, 7, padding=3), torch.randn(1, 8, 9, 9, requires_grad=True)
            for _ in range(20):
                y = layer(x)
                (dx,) = torch.autograd.grad(y.sum(), x)
                expected = torch.nn.functional.grad.conv2d_input(
                    x.shape, layer.weight.detach().double(), torch.ones_like(y).double(), padding=3, groups=8)
                if (dx - expected).abs().max().item() > 1e-4:
                    failures.append(seed)
                with torch.no_grad():
                    layer.weight.copy_(torch.randn(8, 1, 7, 7))

        on_four_threads(work)
        self.assertEqual(failures, [])


class OnePacking(unittest.TestCase):
    """A step packs its weights once: the gradient of the input reads what the layer has packed (docs/pytorch.md)."""

    @unittest.skipUnless(FORM == "compiled", "the ops in Python keep plans of their own")
    @unittest.skipIf(replk.cpu_info().isa == "portable", "the portable code has no weights that two plans share")
    def test_memory(self):
        x, size, layer = torch.randn(1, 512, 14, 14), 14, pack(1, 13, 1, None, (27, 27))

        def grown(forward):
            clear_plans()
            weights = [torch.randn(512, 1, 27, 27) for _ in range(8)]
            if forward:
                for weight in weights:
                    depthwise_conv2d(x, weight, padding=13)
            before = memory()
            for weight in weights:
                torch.ops.replk.depthwise_input_gradient(x, weight, size, size, False, layer, weight._version)
            return memory() - before

        grown(False)  # what every first call allocates
        alone = grown(False)
        self.assertGreater(alone, 8 << 20)
        self.assertLess(grown(True), alone / 2)


def memory():
    """Bytes that the process has written to, files apart."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))


if __name__ == "__main__":
    unittest.main()
