#!/usr/bin/env python3
"""replk.torch.optimize(fuse=True) against the same modules in float64: what is folded, what stays, what follows changes."""
import copy
import pickle
import unittest

from torch_networks import Case, definitions, nn, random_norms

import torch  # noqa: E402
from replk.torch import optimize, restore  # noqa: E402


class ConvBn(nn.Module):
    """A convolution and a batch norm, then an activation: with attributes, not a Sequential."""

    def __init__(self, dense=False, **options):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 5, groups=1 if dense else 8, **options)
        self.bn = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Branches(nn.Module):
    """As in RepVGG: a kernel, a smaller one, a batch norm of the input itself; and another batch norm of the sum."""

    def __init__(self, padding=2, dilation=1):
        super().__init__()
        self.large = nn.Sequential(nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.BatchNorm2d(8))
        self.small = nn.Conv2d(8, 8, 3, padding=padding, dilation=dilation, groups=8)
        self.identity, self.norm = nn.BatchNorm2d(8), nn.SyncBatchNorm(8, affine=False)

    def forward(self, x):
        y = 0
        for branch in (self.large, self.small, self.identity):
            y += branch(x)
        return self.norm(y)


class Fusing(Case):
    def test_forms(self):
        x = torch.randn(2, 8, 12, 12)
        for name, network, kernels in (
            ("attributes", ConvBn(padding=2), 1), ("dense", ConvBn(dense=True, stride=2, bias=False), 1),
            ("same", ConvBn(padding="same"), 1), ("valid", ConvBn(padding="valid"), 1),
            ("branches", Branches(1), 1), ("a dilated branch", Branches(2, 2), 1),
            ("stripes", definitions.Stripes(8, 11, 3), 2), ("dilated branches", definitions.DilatedReparam(8, 13, False), 1),
        ):
            with self.subTest(name), torch.no_grad():
                random_norms(network)
                exact = copy.deepcopy(network).double()(x.double())
                report = optimize(network, fuse=True)
                self.assertEqual(len(report.fused), 1)
                self.assertTrue(report.fused[0][1].endswith(f"run as {kernels}"), report.fused)
                ran = self.kernels_run(network, x)
                self.assertEqual(ran, kernels)
                self.close([network(x)], [exact])

    @staticmethod
    def kernels_run(network, x):
        from torch.utils._python_dispatch import TorchDispatchMode

        class Count(TorchDispatchMode):
            names = []

            def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
                self.names.append(str(operation))
                return operation(*args, **kwargs or {})

        with Count() as count:
            count.names = []
            network(x)
        assert not any("norm" in name for name in count.names), count.names
        return sum("convolution" in name or "replk.depthwise" in name for name in count.names)

    def test_what_cannot_be_fused_stays(self):
        class Uses(ConvBn):
            def forward(self, x):
                y = self.conv(x)
                return self.bn(y) + y.mean()

        class Depends(ConvBn):
            def forward(self, x):
                return self.bn(self.conv(x)) if x.sum() > 0 else x

        class InPlace(Branches):
            def forward(self, x):
                x += self.large(x)
                return x

        hooked = ConvBn(padding=2)
        hooked.conv.register_forward_hook(lambda m, inputs, y: None)
        unlike = Branches(1)
        unlike.small = nn.Conv2d(8, 8, 3, padding=0, groups=8)  # cannot be added: it does not run either
        untracked = ConvBn(padding=2)
        untracked.bn = nn.BatchNorm2d(8, track_running_stats=False)
        x = torch.randn(2, 8, 12, 12)
        for name, network in (("a mean", Uses()), ("a condition", Depends(padding=2)), ("in place", InPlace()),
                              ("hook", hooked), ("unlike", unlike), ("batch statistics", untracked),
                              ("circular", ConvBn(padding=2, padding_mode="circular")),
                              ("chain", nn.Sequential(nn.Conv2d(8, 8, 5, groups=8), nn.Conv2d(8, 8, 5, groups=8)))):
            with self.subTest(name), torch.no_grad():
                random_norms(network) if name != "batch statistics" else network.eval()
                report = optimize(network, fuse=True)
                self.assertEqual([what for what in report.fused if what[0] == ""], [])
                if name != "unlike":
                    exact = restore(copy.deepcopy(network)).double()(x.double())
                    self.close([network(x.clone())], [exact])

    def test_own_training_mode(self):
        class Twice(ConvBn):
            def forward(self, x):
                y = self.bn(self.conv(x))
                return y * 2 if self.training else y

        network, x = random_norms(Twice(padding=2)), torch.randn(1, 8, 9, 9)
        optimize(network, fuse=True)
        with torch.no_grad():
            y = network(x)
            network.training = True  # its own flag alone
            self.close([network(x)], [2 * y.double()])

    def test_hook_added_later_sees_the_convolution(self):
        network, x, seen = random_norms(ConvBn(padding=2)), torch.randn(1, 8, 9, 9), []
        optimize(network, fuse=True)
        with torch.no_grad():
            network(x)
            network.conv.register_forward_hook(lambda m, inputs, y: seen.append(y))
            network(x)
            wide = [t.double() for t in (x, network.conv.weight, network.conv.bias)]
            self.close(seen, [nn.functional.conv2d(*wide, 1, 2, 1, 8)])

    def check_stale(self, change, inference=False):
        network, x = random_norms(definitions.LargeKernel(48, 13, 5, False)), torch.randn(1, 48, 20, 20)
        optimize(network, fuse=True)
        with torch.inference_mode() if inference else torch.no_grad():
            network(x)
            for _ in range(3):
                change(network)
                exact = restore(copy.deepcopy(network)).double()(x.double())
                self.close([network(x)], [exact])

    def test_parameters_that_change(self):
        self.check_stale(lambda n: n.lkb_origin.conv.weight.mul_(2))
        self.check_stale(lambda n: n.small_conv.conv.weight.data.mul_(2))
        self.check_stale(lambda n: n.lkb_origin.bn.running_var.mul_(2))
        self.check_stale(lambda n: n.small_conv.bn.bias.data.add_(1))
        self.check_stale(lambda n: n.load_state_dict(definitions.LargeKernel(48, 13, 5, False).state_dict()))
        self.check_stale(lambda n: setattr(n.lkb_origin.conv, "weight", nn.Parameter(torch.randn(48, 1, 13, 13))))
        self.check_stale(lambda n: n.lkb_origin.conv.weight.mul_(2), inference=True)

        def train(n):
            n.train()(torch.randn(2, 48, 20, 20))
            n.eval()

        self.check_stale(train)

    def test_copies_pickles_and_types(self):
        network, x = random_norms(definitions.LargeKernel(8, 13, 5, False)), torch.randn(1, 8, 20, 20)
        optimize(network, fuse=True)
        with torch.no_grad():
            y = network(x)
            for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
                self.assertTrue(torch.equal(other(x), y))
                other.lkb_origin.bn.bias.zero_()
                self.assertFalse(torch.equal(other(x), y))
                self.assertTrue(torch.equal(network(x), y))
            exact = restore(copy.deepcopy(network)).double()(x.double())
            self.close([copy.deepcopy(network).double()(x.double())], [exact], 1e-12)
            narrow = copy.deepcopy(network).bfloat16()(x.bfloat16())
            self.close([narrow], [exact], 3e-2)
        self.assertIs(type(restore(network)), definitions.LargeKernel)


if __name__ == "__main__":
    unittest.main()
