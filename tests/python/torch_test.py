#!/usr/bin/env python3
"""replk.torch against torch's own conv2d in float64: values, formats, gradients, tracers. stale_test.py has what is kept."""
import io
import subprocess
import sys
import unittest

from torch_case import FORM, conv2d, exact

import torch
from replk.torch import _op, DepthwiseConv2d, depthwise_conv2d
from replk.torch._layer import pack, unpack
from torch import nn


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

    def test_packed_layers(self):
        """Each field at its least and its largest; what it cannot hold is named."""
        for values in ((1, 1, 1, 1, 0, 0, 0, 0), (16, 1, 64, 1, 1023, 1023, 0, 0), (1, 16, 1, 64, 0, 0, 1023, 1023)):
            stride, dilation, padding = values[:2], values[2:4], values[4::2]
            for number, activation in enumerate((None, "relu", "gelu", "silu", "hardswish")):
                self.assertEqual(unpack(pack(stride, padding, dilation, activation, (7, 7))), (values, number))
        self.assertEqual(unpack(pack(1, "same", (2, 1), None, (4, 7)))[0], (1, 1, 2, 1, 3, 3, 3, 3))
        self.assertLess(pack(16, 1023, 64, "hardswish", (7, 7)), 1 << 63)
        for words, arguments in (("dilation is 65", (1, 0, 65)), ("padding is 1024", (1, (0, 1024), 1)), ("stride is 0", ((1, 0), 0, 1))):
            with self.assertRaisesRegex(ValueError, words):
                pack(*arguments, None, (7, 7))
        x, weight = torch.randn(1, 4, 9, 9), torch.randn(4, 1, 5, 5)
        for padding in ([2, 1], (2, 1), torch.Size([2, 1])):  # as hashable as they may be
            self.close(depthwise_conv2d(x, weight, padding=padding), exact(x, weight, None, 1, (2, 1), 1))

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

    def test_of_torch_func(self):
        """Transforms take functions of a form of its own."""
        layer, x = DepthwiseConv2d(4, 5, padding=2), torch.randn(2, 4, 9, 9)
        parameters = dict(layer.named_parameters())
        found = torch.func.grad(lambda p: torch.func.functional_call(layer, p, (x,)).square().sum())(parameters)
        expected = torch.autograd.grad(exact(x, layer.weight, layer.bias, 1, 2, 1).square().sum(), list(layer.parameters()))
        for a, b in zip(found.values(), expected, strict=True):
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


class Tracers(unittest.TestCase):
    def test_opcheck(self):
        arguments = (torch.randn(1, 8, 9, 9), torch.randn(8, 1, 5, 5), None, pack(1, 2, 1, None, (5, 5)), 0)
        torch.library.opcheck(torch.ops.replk.depthwise.default, arguments)

    def test_opcheck_of_the_gradients(self):
        x, weight = torch.randn(2, 8, 9, 9), torch.randn(8, 1, 5, 5)
        for last in (False, True):
            if last:
                x = x.contiguous(memory_format=torch.channels_last)
            layer = pack((2, 1), 2, 1, None, (5, 5))
            dy = torch.randn(2, 8, 5, 9)
            torch.library.opcheck(torch.ops.replk.depthwise_input_gradient.default, (dy, weight, 9, 9, last, layer, 0))
            for bias in (False, True):
                torch.library.opcheck(torch.ops.replk.depthwise_weight_gradient.default, (x, dy, 5, 5, bias, layer))

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
