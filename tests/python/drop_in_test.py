#!/usr/bin/env python3
"""The drop-in for the authors' extension, by definitions of the contract that their code relies on."""
import os
import subprocess
import sys
import unittest

from torch_networks import Case, nn

import torch  # noqa: E402
from replk.torch import implicit_gemm, install_drop_in  # noqa: E402


class DropIn(Case):
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
        attributes = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
        merged = nn.Conv2d(*(getattr(large, attribute) for attribute in attributes))
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


if __name__ == "__main__":
    unittest.main()
