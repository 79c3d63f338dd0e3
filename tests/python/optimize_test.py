#!/usr/bin/env python3
"""replk.torch.optimize and restore on small networks; timm's networks where REPLK_SWEEP=long."""
import copy
import importlib.util
import io
import os
import pickle
import sys
import tempfile
import unittest
import unittest.mock
import warnings

from torch_networks import ROOT, Case, definitions, nn, random_norms, small

import torch  # noqa: E402
from replk.torch import DepthwiseConv2d, optimize, restore  # noqa: E402

FORMATS = (torch.contiguous_format, torch.channels_last)


def networks():
    """Small ones with the real kernels: (name, network in eval mode)."""
    yield "RepLKNet", definitions.RepLKNet((1, 1, 1, 1), (8, 12, 16, 24), (31, 29, 27, 13), 5)
    yield "SLaK", definitions.ConvNeXt((1, 1, 1, 1), (6, 9, 12, 15), (51, 49, 47, 13), 5)
    yield "ConvNeXt", definitions.ConvNeXt((1, 1, 1, 1), (6, 9, 12, 15), (7, 7, 7, 7))
    yield "UniRepLKNet", definitions.UniRepLKNet((1, 1, 2, 1), (8, 16, 16, 24), (3, 13, 13, 13), 2)


def maps(network, x):
    """Everything that a network gives: logits and maps."""
    with torch.no_grad():
        logits, features = network(x)
    return [logits, *features]


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
            "own class": Own(8, 8, 5, groups=8),
            "side": nn.Conv2d(8, 8, 65, groups=8),
            "stride": nn.Conv2d(8, 8, 5, 17, groups=8),
            "wide": nn.Conv2d(8, 8, 5, groups=8).double(),
            "conv1d": nn.Conv1d(8, 8, 5, groups=8),
            "parametrized": nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 5, groups=8)),
            "replaced": nn.Conv2d(8, 8, 5, groups=8),
            "ours": DepthwiseConv2d(8, 5),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts["by hook"] = nn.utils.weight_norm(nn.Conv2d(8, 8, 5, groups=8))
        parts["replaced"].forward = lambda x: x
        network = nn.ModuleDict(parts)
        classes = {name: type(m) for name, m in parts.items()}
        report = optimize(network)
        self.assertEqual([layer.name for layer in report.layers], list(parts))
        self.assertEqual([layer.name for layer in report.swapped], ["swapped", "line", "one channel", "ours"])
        words = {"small": "min_kernel", "dense": "not depthwise", "grouped": "not depthwise", "multiplier": "2 results",
                 "reflect": "reflect", "own class": "Own", "side": "65", "stride": "17", "wide": "float64", "conv1d": "Conv1d",
                 "parametrized": "Parametrized", "replaced": "forward", "by hook": "hook"}
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
        self.close([network[0](input=x).detach()], [plain(x.double()).detach()])

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
            losses = [n.train(mode)(x)[0].square().sum() for n in (plain, network)]
            expected, found = (torch.autograd.grad(loss, list(n.parameters())) for loss, n in zip(losses, (plain, network)))
            # Of the largest of all: some, as of a weight before a batch norm's statistics, are nothing but rounding.
            scale = max(g.abs().max() for g in expected)
            self.assertGreater(sum(g.abs().max() > 1e-3 * scale for g in expected), len(expected) // 2)
            for a, b in zip(found, expected):
                self.assertLessEqual(((a - b).abs().max() / scale).item(), 2e-5)
        network.requires_grad_(False), plain.requires_grad_(False)
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        expected, found = (torch.autograd.grad(n(i)[0].square().sum(), i) for n, i in zip((plain, network), inputs))
        self.close(found, expected, 2e-5)


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
            with unittest.mock.patch("torch.onnx.is_in_onnx_export", return_value=True):  # what exporters trace
                self.assertTrue(torch.equal(network(x), restore(copy.deepcopy(network))(x)))
        for dynamo, needed in ((False, ["onnx"]), (True, ["onnx", "onnxscript"])):
            missing = [module for module in needed if importlib.util.find_spec(module) is None]
            if missing:
                print(f"skipped: torch.onnx.export(dynamo={dynamo}) needs {' and '.join(missing)}")
                continue
            with self.subTest(dynamo=dynamo), tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(network, (x,), f"{folder}/n.onnx", dynamo=dynamo, verbose=False)
                with open(f"{folder}/n.onnx", "rb") as file:
                    model = file.read()
                # A node's type, field 4 of the message, and no name of an op of ours.
                self.assertIn(b"\x22\x04Conv", model)
                self.assertNotIn(b"depthwise", model)


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
