#!/usr/bin/env python3
"""replk.torch against torch's own conv2d in float64: values, formats, gradients, tracers, stale plans."""
import copy
import io
import pickle
import subprocess
import sys
import threading
import unittest

from needs import needs

needs("torch", "pip install torch==2.13.0; ./run test with REPLK_TEST_FRAMEWORKS=1 makes an environment")

import torch  # noqa: E402
from replk.torch import _op, DepthwiseConv2d, clear_plans, depthwise_conv2d  # noqa: E402
from torch import nn  # noqa: E402

conv2d = nn.functional.conv2d
FORM = sys.argv.pop(1) if sys.argv[1:2] in (["compiled"], ["python"]) else "compiled"  # of the ops, that is expected


def problem(seed):
    """A random layer: (x, weight, bias, stride, padding, dilation)."""
    g = torch.Generator().manual_seed(seed)

    def pick(*choices):
        return choices[int(torch.randint(len(choices), (1,), generator=g))]

    c, kh, kw = pick(1, 3, 16, 33), pick(1, 3, 5, 7, 13), pick(1, 2, 3, 7, 11)
    dilation = (pick(1, 1, 2), pick(1, 1, 2))
    h = dilation[0] * (kh - 1) + 1 + pick(0, 1, 4, 9)
    w = dilation[1] * (kw - 1) + 1 + pick(0, 2, 5, 8)
    x = torch.randn(pick(1, 1, 2), c, h, w, generator=g)
    if pick(True, False):
        x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(c, 1, kh, kw, generator=g)
    bias = torch.randn(c, generator=g) if pick(True, False) else None
    return x, weight, bias, (pick(1, 1, 2), pick(1, 1, 3)), (pick(0, kh // 2), pick(0, kw // 2)), dilation


def exact(x, weight, bias, stride, padding, dilation):
    return conv2d(x.double(), weight.double(), None if bias is None else bias.double(), stride, padding, dilation, x.shape[1])


class Forward(unittest.TestCase):
    def close(self, found, expected, bound=5e-6):
        self.assertEqual(found.shape, expected.shape)
        scale = expected.abs().amax().clamp(min=1e-30)
        self.assertLessEqual(((found.double() - expected).abs().amax() / scale).item(), bound)

    def test_random_problems(self):
        for seed in range(200):
            p = problem(seed)
            with self.subTest(seed=seed):
                y = depthwise_conv2d(*p)
                self.close(y, exact(*p))
                self.assertEqual(y.stride(), conv2d(p[0], p[1], p[2], p[3], p[4], p[5], p[0].shape[1]).stride())

    def test_views_are_read_where_they_lie(self):
        x, weight = torch.randn(2, 24, 20, 18), torch.randn(8, 1, 5, 5)
        for whole in (x, x.contiguous(memory_format=torch.channels_last)):
            for view in (whole[:, 8:16], whole[:, 8:16, 3:17, 2:15], whole[:, ::3], whole[:, 8:16].transpose(2, 3)):
                self.close(depthwise_conv2d(view, weight, padding=2), exact(view, weight, None, 1, 2, 1))

    def test_rows_that_overlap(self):
        values, weight = torch.randn(2000), torch.randn(8, 1, 5, 5)
        for strides in ((600, 1, 40, 8), (400, 50, 4, 1)):
            x = values.as_strided((2, 8, 12, 12), strides)
            self.close(depthwise_conv2d(x, weight, padding=2), exact(x, weight, None, 1, 2, 1))

    def test_where_both_formats_fit_the_result_has_pytorch_s(self):
        x, weight = torch.randn(3, 1, 1, 1), torch.randn(1, 1, 3, 3)
        for view in (x, torch.randn(3, 1, 1, 4)[..., :1]):
            self.assertEqual(depthwise_conv2d(view, weight, padding=2).stride(), conv2d(view, weight, padding=2).stride())

    def test_same_and_valid_padding(self):
        x, weight = torch.randn(1, 4, 9, 9), torch.randn(4, 1, 4, 5)
        for padding in ("same", "valid"):
            self.close(depthwise_conv2d(x, weight, padding=padding),
                       conv2d(x.double(), weight.double(), padding=padding, groups=4))

    def test_half_precision_and_autocast(self):
        x, weight = torch.randn(1, 16, 14, 14), torch.randn(16, 1, 7, 7)
        for dtype, bound in ((torch.bfloat16, 8e-3), (torch.float16, 1e-3)):
            y = depthwise_conv2d(x.to(dtype), weight.to(dtype), padding=3)
            self.assertEqual(y.dtype, dtype)
            self.close(y, exact(x.to(dtype), weight.to(dtype), None, 1, 3, 1), bound)
        with torch.autocast("cpu"):
            self.assertEqual(depthwise_conv2d(x, weight, padding=3).dtype, conv2d(x, weight, padding=3, groups=16).dtype)

    def test_empty_batch_and_activation(self):
        weight = torch.randn(4, 1, 3, 3)
        self.assertEqual(depthwise_conv2d(torch.randn(0, 4, 5, 5), weight, padding=1).shape, (0, 4, 5, 5))
        x = torch.randn(1, 4, 5, 5)
        y = depthwise_conv2d(x, weight, padding=1, activation="silu")
        self.close(y, nn.functional.silu(exact(x, weight, None, 1, 1, 1)))

    def test_wrong_input_is_named(self):
        x, weight = torch.randn(1, 4, 5, 5), torch.randn(4, 1, 3, 3)
        for words, call in (
            ("channels", lambda: depthwise_conv2d(x, weight[:3])),
            ("4-dimensional", lambda: depthwise_conv2d(x[0], weight)),
            ("bias", lambda: depthwise_conv2d(x, weight, torch.randn(5))),
            ("dtype", lambda: depthwise_conv2d(x.double(), weight)),
            ("larger than", lambda: depthwise_conv2d(x, torch.randn(4, 1, 9, 9))),
            ("padding", lambda: depthwise_conv2d(x, weight, padding="reflect")),
            ("activation", lambda: depthwise_conv2d(x, weight, activation="tanh")),
            ("stride", lambda: depthwise_conv2d(x, weight, stride=0)),
            ("stride", lambda: depthwise_conv2d(x, weight, stride=17)),
            ("dilation", lambda: depthwise_conv2d(x, weight, dilation=-1)),
            ("negative padding", lambda: depthwise_conv2d(x, weight, padding=-1)),
            ("padding", lambda: depthwise_conv2d(x, weight, padding=(1, 1, 1))),
            ("dtype", lambda: depthwise_conv2d(x.int(), weight)),
            ("dtype", lambda: depthwise_conv2d(x, weight.double())),
            ("dtype", lambda: depthwise_conv2d(x, weight, torch.randn(4).double())),
            ("channels", lambda: depthwise_conv2d(x, torch.randn(8, 1, 3, 3))),
            ("weight must be", lambda: depthwise_conv2d(x, weight[0])),
            ("input is on cpu, weight on meta", lambda: depthwise_conv2d(x, weight.to("meta"))),
            ("Sparse", lambda: depthwise_conv2d(x.to_sparse(), weight)),
            ("larger than", lambda: depthwise_conv2d(x[:, :, :0], weight)),
            ("kernel", lambda: depthwise_conv2d(torch.randn(1, 4, 70, 70), torch.randn(4, 1, 65, 65))),
        ):
            with self.subTest(words=words), self.assertRaisesRegex((RuntimeError, ValueError), words) as caught:
                call()
            message = str(caught.exception)
            if "Sparse" not in message:  # which is PyTorch's own
                self.assertRegex(message, r"^[^\n/]*$", "one line, and no place in the source")

    def test_weights_that_are_not_contiguous(self):
        x, weight, bias = torch.randn(1, 4, 9, 9), torch.randn(4, 1, 5, 10)[..., ::2], torch.randn(8)[::2]
        self.close(depthwise_conv2d(x, weight, bias, padding=2), exact(x, weight, bias, 1, 2, 1))
        self.close(depthwise_conv2d(x, weight.transpose(2, 3), padding=2), exact(x, weight.transpose(2, 3), None, 1, 2, 1))

    def test_values_that_are_kept_negated(self):
        """A view of a conjugate's imaginary part: memory holds the opposite of what it is."""
        x, weight = torch.randn(1, 4, 9, 9, dtype=torch.cfloat).conj().imag, torch.randn(4, 1, 5, 5)
        self.assertTrue(x.is_neg())
        self.close(depthwise_conv2d(x, weight, padding=2), exact(x, weight, None, 1, 2, 1))


class Gradient(unittest.TestCase):
    def expected(self, leaves, p, dy):
        """In float64, of the same values."""
        x, weight, bias, *rest = p
        wanted = [t.detach().double().requires_grad_() for t in leaves]
        y = conv2d(*wanted, *([None] if bias is None else []), *rest, x.shape[1])
        return torch.autograd.grad(y, wanted, dy.double())

    def close(self, found, expected, bound):
        """Of the channel's largest: dx is compared image by image, [n, c, h, w]; dw is [c, 1, kh, kw], db [c]."""
        self.assertEqual(found.shape, expected.shape)
        sides = tuple(range(2, expected.dim())) if expected.dim() == 4 else ()
        scale = expected.abs().amax(sides, keepdim=True) if sides else expected.abs().max()
        self.assertLessEqual(((found.double() - expected).abs() / scale.clamp(min=1e-20)).max().item(), bound)

    def test_random_problems(self):
        for seed in range(240):
            x, weight, bias, stride, padding, dilation = p = problem(seed)
            g = torch.Generator().manual_seed(seed)
            x *= 10.0 ** torch.randint(-3, 4, (1, x.shape[1], 1, 1), generator=g)
            leaves = [t for t in (x, weight, bias) if t is not None]
            for leaf in leaves:
                leaf.requires_grad_()
            y = depthwise_conv2d(x, weight, bias, stride, padding, dilation)
            dy = torch.randn(y.shape, generator=g)
            if seed % 3 == 0:  # as it comes from elsewhere
                dy = dy.contiguous(memory_format=torch.channels_last if seed % 2 else torch.contiguous_format)
            found = torch.autograd.grad(y, leaves, dy)
            with self.subTest(seed=seed):
                for a, b in zip(found, self.expected(leaves, p, dy)):
                    self.close(a, b, 5e-6)
                self.assertEqual(found[0].stride(), x.stride())

    def test_autocast(self):
        for seed in range(60):
            x, weight, bias, stride, padding, dilation = p = problem(seed)
            leaves = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
            with torch.autocast("cpu", torch.bfloat16):
                y = depthwise_conv2d(x, weight, bias, stride, padding, dilation)
            self.assertEqual(y.dtype, torch.bfloat16)
            dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)).bfloat16()
            found = torch.autograd.grad(y, leaves, dy)
            # Of what the op was given: the input rounded, the weight as it is; dx is rounded once.
            rounded = x.detach().bfloat16()
            expected = self.expected([rounded, *leaves[1:]], (rounded, *p[1:]), dy)
            with self.subTest(seed=seed):
                self.assertEqual([a.dtype for a in found], [torch.float32] * len(found))
                self.close(found[0], expected[0], 2.0**-8)
                for a, b in zip(found[1:], expected[1:]):
                    self.close(a, b, 5e-6)

    def test_half_precision(self):
        for dtype, rounding in ((torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-11)):
            leaves = [torch.randn(2, 16, 14, 15), torch.randn(16, 1, 7, 7), torch.randn(16)]
            leaves = [t.to(dtype).requires_grad_() for t in leaves]
            y = depthwise_conv2d(*leaves, padding=3)
            dy = torch.randn(y.shape).to(dtype)
            for a, b in zip(torch.autograd.grad(y, leaves, dy), self.expected(leaves, (*leaves, 1, 3, 1), dy)):
                self.assertEqual(a.dtype, dtype)
                self.close(a, b, rounding)

    def test_any_dy(self):
        """Expanded, transposed, sliced, in another format than x."""
        x, weight = torch.randn(2, 16, 12, 12, requires_grad=True), torch.randn(16, 1, 5, 5, requires_grad=True)
        base = torch.randn(2, 32, 12, 24)
        for dy in (torch.ones(1).expand(2, 16, 12, 12), base[:, ::2, :, :12], base[:, :16, :, ::2],
                   base[:, :16, :, :12].transpose(2, 3), torch.randn(2, 12, 12, 16).permute(0, 3, 1, 2)):
            for layout in (torch.contiguous_format, torch.channels_last):
                leaves = [x.detach().contiguous(memory_format=layout).requires_grad_(), weight]
                found = torch.autograd.grad(depthwise_conv2d(*leaves, padding=2), leaves, dy)
                for a, b in zip(found, self.expected(leaves, (*leaves, None, 1, 2, 1), dy)):
                    self.close(a, b, 5e-6)

    def test_frozen(self):
        x, weight, bias = torch.randn(1, 4, 6, 6), torch.randn(4, 1, 3, 3), torch.randn(4)
        for wanted in ([True, False, False], [False, True, False], [False, False, True], [True, False, True]):
            leaves = [t.clone().requires_grad_(w) for t, w in zip((x, weight, bias), wanted)]
            depthwise_conv2d(*leaves, padding=1).sum().backward()
            self.assertEqual([t.grad is not None for t in leaves], wanted)

    def test_empty_batch(self):
        x, weight = torch.randn(0, 4, 6, 6, requires_grad=True), torch.randn(4, 1, 3, 3, requires_grad=True)
        depthwise_conv2d(x, weight, padding=1).sum().backward()
        self.assertEqual(x.grad.shape, x.shape)
        self.assertEqual(weight.grad.abs().max().item(), 0)

    def test_of_second_order(self):
        """A penalty on a gradient."""
        results = []
        for convolve in (depthwise_conv2d, lambda x, w, b, padding: conv2d(x, w, b, 1, padding, groups=8)):
            g = torch.Generator().manual_seed(5)
            double = convolve is not depthwise_conv2d
            leaves = [torch.randn(*s, generator=g) for s in ((1, 8, 9, 9), (8, 1, 5, 5), (8,))]
            leaves = [(t.double() if double else t).requires_grad_() for t in leaves]
            y = convolve(*leaves, padding=2)
            first = torch.autograd.grad((y**3).sum(), leaves, create_graph=True)
            results.append(torch.autograd.grad(sum((g**2).sum() for g in first), leaves))
        for a, b in zip(*results):
            self.close(a, b, 2e-5)

    def test_weights_that_change(self):
        """As an optimizer changes them: between a step's forward and backward passes nothing is stale."""
        layer = DepthwiseConv2d(24, 13, padding=6)
        x = torch.randn(2, 24, 16, 16, requires_grad=True)
        optimizer = torch.optim.SGD(layer.parameters(), 0.01)
        for _ in range(4):
            optimizer.zero_grad()
            x.grad = None
            y = layer(x)
            dy = torch.randn_like(y)
            y.backward(dy)
            leaves = [x, layer.weight, layer.bias]
            for a, b in zip((t.grad for t in leaves), self.expected(leaves, (*leaves, 1, 6, 1), dy)):
                self.close(a, b, 5e-6)
            optimizer.step()


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

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
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

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        with torch.no_grad():
            for result in results:
                torch.testing.assert_close(result, layer(x))
        clear_plans()


class Tracers(unittest.TestCase):
    def test_opcheck(self):
        arguments = (torch.randn(1, 8, 9, 9), torch.randn(8, 1, 5, 5), None, 1, 1, 2, 2, 2, 2, 1, 1, 0, 0)
        torch.library.opcheck(torch.ops.replk.depthwise.default, arguments)

    def test_opcheck_of_the_gradients(self):
        x, weight = torch.randn(2, 8, 9, 9), torch.randn(8, 1, 5, 5)
        for last in (False, True):
            if last:
                x = x.contiguous(memory_format=torch.channels_last)
            layer = (2, 1, 2, 2, 2, 2, 1, 1)
            dy = torch.randn(2, 8, 5, 9)
            torch.library.opcheck(torch.ops.replk.depthwise_input_gradient.default, (dy, weight, 9, 9, last, *layer, 0))
            for bias in (False, True):
                torch.library.opcheck(torch.ops.replk.depthwise_weight_gradient.default, (x, dy, 5, 5, bias, *layer))

    def test_compile_of_a_step(self):
        layer = nn.Sequential(DepthwiseConv2d(8, 5, padding=2), nn.ReLU())
        x = torch.randn(2, 8, 9, 9, requires_grad=True)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        leaves = [x, *layer.parameters()]
        for a, b in zip(torch.autograd.grad(compiled(x).square().sum(), leaves),
                        torch.autograd.grad(layer(x).square().sum(), leaves)):
            torch.testing.assert_close(a, b)

    def test_export(self):
        layer = DepthwiseConv2d(8, 5, padding=2).eval()
        x = torch.randn(2, 8, 9, 9)
        with torch.no_grad():
            program = torch.export.export(layer, (x,))
            torch.testing.assert_close(program.module()(x), layer(x))

    def test_compile(self):
        layer = nn.Sequential(DepthwiseConv2d(8, 5, padding=2), nn.ReLU()).eval()
        x = torch.randn(2, 8, 9, 9)
        with torch.no_grad():
            compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
            torch.testing.assert_close(compiled(x), layer(x))
            last = x.contiguous(memory_format=torch.channels_last)
            self.assertEqual(compiled(last).stride(), layer(last).stride())

    def test_state_dict_is_conv2d_s(self):
        plain, ours = nn.Conv2d(8, 8, 5, groups=8), DepthwiseConv2d(8, 5)
        self.assertEqual(list(plain.state_dict()), list(ours.state_dict()))
        buffer = io.BytesIO()
        torch.save(plain.state_dict(), buffer)
        ours.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))


class Process(unittest.TestCase):
    def test_the_compiled_ops_or_those_in_python(self):
        """torch_test.py python: on a copy of the library with no ops beside it."""
        self.assertEqual(_op.compiled, FORM == "compiled")

    def test_one_openmp_runtime_in_either_order(self):
        for order in ("import replk, torch", "import torch, replk"):
            code = order + """
import replk.torch
replk.torch.depthwise_conv2d(torch.randn(1, 8, 9, 9), torch.randn(8, 1, 3, 3))
print(len({line.split()[-1] for line in open("/proc/self/maps") if "gomp" in line}))
"""
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            self.assertEqual(done.stdout.strip(), "1", done.stderr)


if __name__ == "__main__":
    unittest.main()
