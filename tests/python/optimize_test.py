#!/usr/bin/env python3
"""replk.torch.optimize, restore and the drop-in for the authors' extension, on small networks; timm's networks where
REPLK_SWEEP=long."""
import copy
import io
import os
import pickle
import subprocess
import sys
import tempfile
import unittest
import warnings

from needs import needs

needs("torch", "pip install torch==2.13.0; ./run test with REPLK_TEST_FRAMEWORKS=1 makes an environment")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "parity"))

import definitions  # noqa: E402
import torch  # noqa: E402
from replk.torch import DepthwiseConv2d, implicit_gemm, install_drop_in, optimize, restore  # noqa: E402
from torch import nn  # noqa: E402

FORMATS = (torch.contiguous_format, torch.channels_last)


def networks():
    """Small ones with the real kernels: (name, network in eval mode)."""
    yield "RepLKNet", definitions.RepLKNet((1, 1, 1, 1), (8, 12, 16, 24), (31, 29, 27, 13), 5)
    yield "SLaK", definitions.ConvNeXt((1, 1, 1, 1), (6, 9, 12, 15), (51, 49, 47, 13), 5)
    yield "ConvNeXt", definitions.ConvNeXt((1, 1, 1, 1), (6, 9, 12, 15), (7, 7, 7, 7))
    yield "UniRepLKNet", definitions.UniRepLKNet((1, 1, 2, 1), (8, 16, 16, 24), (3, 13, 13, 13), 2)


def small():
    return definitions.randomise(definitions.RepLKNet((1, 1, 1, 1), (8, 8, 8, 8), (13, 13, 13, 13), 5), 3)


def maps(network, x):
    """Everything that a network gives: logits and maps."""
    with torch.no_grad():
        logits, features = network(x)
    return [logits, *features]


class Case(unittest.TestCase):
    def close(self, found, expected, bound=5e-6):
        for a, b in zip(found, expected, strict=True):
            self.assertEqual(a.shape, b.shape)
            self.assertLessEqual(((a.double() - b).abs().max() / b.abs().max()).item(), bound)


class Swapping(Case):
    def test_networks_in_both_layouts_and_back(self):
        for name, network in networks():
            definitions.randomise(network, 1)
            for memory_format in FORMATS:
                network = copy.deepcopy(network).to(memory_format=memory_format)
                x = torch.randn(2, 3, 64, 64).contiguous(memory_format=memory_format)
                exact = maps(copy.deepcopy(network).double(), x.double())
                before, state = maps(network, x), network.state_dict(keep_vars=True)
                for fuse in (False, True):
                    with self.subTest(network=name, layout=memory_format, fuse=fuse):
                        report = optimize(network, fuse=fuse)
                        self.assertTrue(report.swapped)
                        self.assertEqual(bool(report.fused), fuse and name != "ConvNeXt")
                        found = maps(network, x)
                        self.close(found, exact)
                        self.assertFalse(all(map(torch.equal, found, before)), "computed by conv2d as before")
                        now = network.state_dict(keep_vars=True)
                        self.assertEqual(list(now), list(state))
                        self.assertTrue(all(now[key] is state[key] for key in state))
                        restore(network)
                        self.assertTrue(all(map(torch.equal, maps(network, x), before)))
                        self.assertFalse([m for m in network.modules() if type(m).__module__.startswith("replk")])

    def test_report_and_what_is_left(self):
        class Own(nn.Conv2d):
            pass

        parts = {
            "swapped": nn.Conv2d(8, 8, 5, padding=2, groups=8),
            "line": nn.Conv2d(8, 8, (1, 71), padding=(0, 35), groups=8),
            "one channel": nn.Conv2d(1, 1, 5),
            "small": nn.Conv2d(8, 8, 3, groups=8),
            "dense": nn.Conv2d(8, 8, 5),
            "grouped": nn.Conv2d(8, 8, 5, groups=4),
            "multiplier": nn.Conv2d(8, 16, 5, groups=8),
            "reflect": nn.Conv2d(8, 8, 5, padding=2, padding_mode="reflect", groups=8),
            "class": Own(8, 8, 5, groups=8),
            "side": nn.Conv2d(8, 8, 65, groups=8),
            "stride": nn.Conv2d(8, 8, 5, 17, groups=8),
            "type": nn.Conv2d(8, 8, 5, groups=8).double(),
            "conv1d": nn.Conv1d(8, 8, 5, groups=8),
            "parametrized": nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 5, groups=8)),
            "forward": nn.Conv2d(8, 8, 5, groups=8),
            "ours": DepthwiseConv2d(8, 5),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts["by hook"] = nn.utils.weight_norm(nn.Conv2d(8, 8, 5, groups=8))
        parts["forward"].forward = lambda x: x
        network = nn.ModuleDict(parts)
        classes = {name: type(m) for name, m in parts.items()}
        report = optimize(network)
        self.assertEqual([layer.name for layer in report.layers], list(parts))
        self.assertEqual([layer.name for layer in report.swapped], ["swapped", "line", "one channel", "ours"])
        words = {"small": "min_kernel", "dense": "not depthwise", "grouped": "not depthwise", "multiplier": "2 results",
                 "reflect": "reflect", "class": "Own", "side": "65", "stride": "17", "type": "float64", "conv1d": "Conv1d",
                 "parametrized": "Parametrized", "forward": "forward", "by hook": "hook"}
        self.assertEqual({layer.name for layer in report.left}, set(words))
        for layer in report.left:
            self.assertIn(words[layer.name], layer.reason)
            self.assertIs(type(parts[layer.name]), classes[layer.name])
        self.assertIn("4 of 17 convolutions swapped", str(report))
        self.assertEqual(len(optimize(network, min_kernel=3).swapped), 5)
        restore(network)
        self.assertEqual({name: type(m) for name, m in parts.items()}, classes)
        for wrong in (0, 2.5, True, "5"):
            with self.assertRaisesRegex(ValueError, "min_kernel"):
                optimize(network, min_kernel=wrong)

    def test_hooks_shared_modules_copies_and_pickles(self):
        shared = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        network = nn.Sequential(shared, nn.ReLU(), shared)
        seen = []
        handle = shared.register_forward_hook(lambda m, inputs, y: seen.append(y))
        x = torch.randn(1, 8, 12, 12)
        with torch.no_grad():
            expected = network(x)
            self.assertEqual(len(optimize(network).layers), 1)
            self.close([network(x)], [expected])
            self.assertEqual(len(seen), 4)
            handle.remove()
            for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
                self.close([other(x)], [expected])
                self.assertIs(other[0], other[2])
                other[0].weight.data.zero_()
                self.close([network(x)], [expected])
                self.assertIs(type(restore(other)[0]), nn.Conv2d)

    def test_other_types_go_to_conv2d(self):
        network = nn.Sequential(nn.Conv2d(8, 8, 5, padding=2, groups=8))
        x = torch.randn(1, 8, 9, 9)
        optimize(network)
        wide = copy.deepcopy(network).double()
        plain = restore(copy.deepcopy(wide))
        self.assertTrue(torch.equal(wide(x.double()), plain(x.double())))
        self.assertEqual(network(x[0]).shape, (8, 9, 9))

    def test_layers_that_are_slower_are_left(self):
        network = small()
        report = optimize(network, example=torch.randn(1, 3, 64, 64))
        timed = [layer for layer in report.layers if "before" in layer.reason]
        self.assertEqual(len(timed), 8)
        for layer in timed:
            here, before = (float(text.split()[0]) for text in layer.reason.split(": ")[1].split(", "))
            self.assertLessEqual(layer.swapped * here, before)
        self.assertFalse(network.training)
        # Were conv2d free, nothing would be swapped.
        own, nn.Conv2d.forward = nn.Conv2d.forward, lambda self, x: x[:, :1].expand(-1, self.out_channels, -1, -1)
        try:
            report = optimize(nn.Sequential(nn.Conv2d(8, 8, 7, padding=3, groups=8)), example=torch.randn(1, 8, 64, 64))
        finally:
            nn.Conv2d.forward = own
        self.assertEqual(report.swapped, [])

    def test_example_leaves_modes_and_statistics(self):
        network = nn.Sequential(nn.Conv2d(4, 4, 5, groups=4), nn.BatchNorm2d(4), nn.Dropout()).train()
        network[2].eval()
        optimize(network, example=(torch.randn(2, 4, 9, 9),))
        self.assertEqual([m.training for m in network], [True, True, False])
        self.assertEqual(network[1].num_batches_tracked.item(), 0)


class Training(Case):
    def test_losses_are_the_same(self):
        """Twenty steps; the yardstick is the other layout of PyTorch's own, which rounds differently too."""
        results = {}
        for form in ("before", "channels-last", "optimized", "fused"):
            network = small().train()
            torch.manual_seed(2)
            x, y = torch.randn(4, 3, 64, 64), torch.tensor([1, 2, 3, 4])
            if form == "channels-last":
                network, x = network.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
            if form in ("optimized", "fused"):
                optimize(network, fuse=form == "fused")
            optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)
            results[form] = losses = []
            for _ in range(20):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(network(x)[0], y)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())

        def differs(form):
            return max(abs(a - b) / b for a, b in zip(results[form], results["before"]))

        self.assertLess(results["before"][-1], 0.9 * results["before"][0])
        for form in ("optimized", "fused"):
            self.assertLessEqual(differs(form), max(10 * differs("channels-last"), 1e-5))

    def test_fused_modules_follow_their_mode_and_gradients(self):
        network, x = small(), torch.randn(2, 3, 64, 64)
        plain = copy.deepcopy(network)
        optimize(network, fuse=True)
        for mode in (True, False):  # also with frozen batch norms
            leaves = [(n.train(mode), list(n.parameters()))[1] for n in (plain, network)]
            expected = torch.autograd.grad(plain(x)[0].sum(), leaves[0])
            self.close(torch.autograd.grad(network(x)[0].sum(), leaves[1]), expected, 2e-4)
        network.requires_grad_(False), plain.requires_grad_(False)
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        expected, found = (torch.autograd.grad(n(i)[0].square().sum(), i) for n, i in zip((plain, network), inputs))
        self.close(found, expected, 2e-5)


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


def random_norms(network):
    for m in network.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.running_mean.normal_(), m.running_var.uniform_(0.5, 2)
            if m.affine:
                nn.init.normal_(m.weight), nn.init.normal_(m.bias)
    return network.eval()


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

    def test_hook_added_later_sees_the_convolution(self):
        network, x, seen = random_norms(ConvBn(padding=2)), torch.randn(1, 8, 9, 9), []
        optimize(network, fuse=True)
        with torch.no_grad():
            network(x)
            network.conv.register_forward_hook(lambda m, inputs, y: seen.append(y))
            network(x)
            self.close(seen, [nn.functional.conv2d(x.double(), network.conv.weight.double(), network.conv.bias.double(), 1, 2, 1, 8)])

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


class Tracers(Case):
    def test_compile_and_export(self):
        for fuse in (False, True):
            network, x = small(), torch.randn(1, 3, 64, 64)
            optimize(network, fuse=fuse)
            with torch.no_grad():
                expected = network(x)[0]
                compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
                self.close([compiled(x)[0]], [expected.double()])
                self.close([torch.export.export(network, (x,)).module()(x)[0]], [expected.double()])

    def test_onnx_has_plain_convolutions(self):
        network = random_norms(nn.Sequential(nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.BatchNorm2d(8), nn.ReLU()))
        optimize(network, fuse=True)
        x = torch.randn(1, 8, 12, 12)
        with torch.no_grad():
            network(x)
        for module, dynamo in (("onnx", False), ("onnxscript", True)):
            with self.subTest(dynamo=dynamo):
                try:
                    __import__(module)
                except ImportError:
                    print(f"skipped: the exporter with dynamo={dynamo} needs {module}")
                    continue
                import onnx

                with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    torch.onnx.export(network, (x,), f"{folder}/n.onnx", dynamo=dynamo, verbose=False)
                    nodes = onnx.load(f"{folder}/n.onnx").graph.node
                self.assertIn("Conv", [node.op_type for node in nodes])
                self.assertEqual({node.domain for node in nodes} - {"", "ai.onnx"}, set())


class DropIn(Case):
    """Definitions of the contract that RepLKNet's, SLaK's and UniRepLKNet's code relies on."""

    def layer(self, channels, kernel, **options):
        layer = install_drop_in().DepthWiseConv2dImplicitGEMM(channels, kernel, **options)
        self.assertIsInstance(layer, nn.Conv2d)
        return layer

    def test_layers_and_gradients(self):
        for kernel, bias in ((31, False), (13, True), ((51, 5), False), ((5, 51), True), ((7, 7), False)):
            layer = self.layer(8, kernel, bias=bias)
            kh, kw = layer.kernel_size
            leaves = [torch.randn(2, 8, 20, 24, requires_grad=True), *layer.parameters()]
            y = layer(leaves[0])
            dy = torch.randn_like(y)
            wide = [t.detach().double().requires_grad_() for t in leaves]
            exact = nn.functional.conv2d(*wide, *([] if bias else [None]), 1, (kh // 2, kw // 2), 1, 8)
            self.close([y.detach()], [exact.detach()])
            self.close(torch.autograd.grad(y, leaves, dy), torch.autograd.grad(exact, wide, dy.double()))

    def test_positional_bias_and_state_dict(self):
        layer = self.layer(8, 7)
        self.assertIsNone(layer.bias)
        with_bias = install_drop_in().DepthWiseConv2dImplicitGEMM(8, 7, True)
        self.assertEqual(list(with_bias.state_dict()), ["weight", "bias"])

    def test_better_than_theirs(self):
        layer = self.layer(8, 13)
        self.assertEqual(layer.padding, (6, 6))  # a merged convolution is made of it
        self.assertEqual(layer.bfloat16()(torch.randn(1, 8, 9, 9).bfloat16()).dtype, torch.bfloat16)
        self.assertEqual(layer.double()(torch.randn(1, 8, 9, 9).double()).dtype, torch.float64)
        for kernel in (4, (5, 6), 0):
            with self.assertRaisesRegex(ValueError, "odd"):
                self.layer(8, kernel)
        with self.assertRaises(RuntimeError):  # and the process lives
            layer.float()(torch.randn(1, 9, 9, 9))

    def test_functions(self):
        module = install_drop_in()
        x, w = torch.randn(2, 8, 12, 12, requires_grad=True), torch.randn(8, 1, 7, 5, requires_grad=True)
        exact = nn.functional.conv2d(x.double(), w.double(), None, 1, (3, 2), 1, 8)
        with torch.autocast("cpu"):
            wide = module._DepthWiseConv2dImplicitGEMMFP32.apply(x, w)
            narrow = module._DepthWiseConv2dImplicitGEMMFP16.apply(x, w)
        self.assertEqual([wide.dtype, narrow.dtype], [torch.float32, torch.float16])
        self.close([wide], [exact])
        self.close([narrow], [exact], 3e-3)
        self.assertEqual([g.dtype for g in torch.autograd.grad(narrow.float().sum(), (x, w))], [torch.float32] * 2)

    def test_merged_as_the_authors_merge(self):
        """As `merge_kernel` does: a convolution made of the other's attributes, with its kernel and the small one's."""
        large, small_conv = self.layer(8, 13), self.layer(8, 5)
        merged = nn.Conv2d(large.in_channels, large.out_channels, large.kernel_size, large.stride, large.padding, large.dilation,
                           large.groups)
        with torch.no_grad():
            merged.weight.copy_(large.weight + nn.functional.pad(small_conv.weight, [4] * 4))
            merged.bias.zero_()
            x = torch.randn(1, 8, 14, 14)
            self.close([merged(x)], [(large(x) + small_conv(x)).double()])

    def test_found_as_the_authors_find_it(self):
        """By a variable whose folder is appended to sys.path; and where a repository has the Python half of the extension."""
        code = """
import os, sys, torch
sys.path.append(os.environ["LARGE_KERNEL_CONV_IMPL"])
from depthwise_conv2d_implicit_gemm import DepthWiseConv2dImplicitGEMM, _DepthWiseConv2dImplicitGEMMFP32
import _depthwise_conv2d_implicit_gemm_C as half
x, w, dy = torch.randn(1, 4, 9, 9, requires_grad=True), torch.randn(4, 1, 7, 5, requires_grad=True), torch.randn(1, 4, 9, 9)
y = torch.nn.functional.conv2d(x, w, None, 1, (3, 2), 1, 4)
dx, dw = torch.autograd.grad(y, (x, w), dy)
for a, b in ((half.forward_fp32(x, w), y), (half.backward_data_fp32(dy, w), dx), (half.backward_filter_fp32(dy, x, w), dw)):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
print(DepthWiseConv2dImplicitGEMM(4, (7, 5)).padding)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env={**os.environ, "LARGE_KERNEL_CONV_IMPL": implicit_gemm.DIRECTORY})
        self.assertEqual(done.stdout.strip(), "(3, 2)", done.stderr)


class FineTuning(Case):
    def test_docs_example(self):
        """The program of docs/pytorch.md, on a tiny network."""
        with open(os.path.join(ROOT, "docs", "pytorch.md")) as file:
            code = file.read().split("<!-- fine-tune -->\n```python\n")[1].split("```")[0]
        class Logits(definitions.RepLKNet):
            def forward(self, x):
                return super().forward(x)[0]

        network = definitions.randomise(Logits((1, 1, 1, 1), (8, 8, 8, 8), (13, 13, 13, 13), 5), 3)
        said = io.StringIO()
        names = {"network": network, "loader": [(torch.randn(2, 3, 64, 64), torch.tensor([1, 2]))] * 3, "classes": 5,
                 "print": lambda *words: print(*words, file=said), "__name__": "docs"}
        exec(code, names)
        self.assertEqual(network.head.out_features, 5)
        self.assertIn("swapped", said.getvalue())
        self.assertEqual(names["logits"].shape, (2, 5))


class Timm(Case):
    def test_networks(self):
        if os.environ.get("REPLK_SWEEP") != "long":
            self.skipTest("timm's networks are run where REPLK_SWEEP=long, which takes minutes")
        try:
            import timm
        except ImportError:
            self.skipTest(f"{sys.executable} has no timm (pip install timm)")
        for name in ("convnext_tiny", "inception_next_tiny", "fastvit_t8", "mambaout_tiny", "mobilenetv4_conv_small"):
            network = timm.create_model(name).eval()
            x = torch.randn(1, *network.default_cfg["input_size"])
            for fuse in (False, True):
                with self.subTest(name, fuse=fuse), torch.no_grad():
                    expected, keys = network(x).double(), list(network.state_dict())
                    self.assertTrue(optimize(network, fuse=fuse).swapped)
                    self.close([network(x)], [expected], 1e-5)
                    self.assertEqual(list(network.state_dict()), keys)
                    restore(network)


if __name__ == "__main__":
    print("timm's networks:", "run" if os.environ.get("REPLK_SWEEP") == "long" else "skipped without REPLK_SWEEP=long")
    unittest.main()
