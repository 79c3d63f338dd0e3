"""Networks and comparisons that the tests of replk.torch share."""
import os
import sys
import unittest

from needs import needs

needs("torch", "pip install torch==2.13.0; ./run test with REPLK_TEST_FRAMEWORKS=1 makes an environment")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "parity"))

import definitions  # noqa: E402
from torch import nn  # noqa: E402


def small():
    return definitions.randomise(definitions.RepLKNet((1, 1, 1, 1), (8, 8, 8, 8), (13, 13, 13, 13), 5), 3)


def random_norms(network):
    for m in network.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.running_mean.normal_(), m.running_var.uniform_(0.5, 2)
            if m.affine:
                nn.init.normal_(m.weight), nn.init.normal_(m.bias)
    return network.eval()


class Case(unittest.TestCase):
    def close(self, found, expected, bound=5e-6):
        for a, b in zip(found, expected, strict=True):
            self.assertEqual(a.shape, b.shape)
            self.assertLessEqual(((a.double() - b).abs().max() / b.abs().max()).item(), bound)
