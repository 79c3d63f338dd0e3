#!/usr/bin/env python3
"""What the pages show in Python is run as it stands there: README.md, python/README.md, docs/python.md."""
import importlib.util
import pathlib
import re
import sys
import unittest

from needs import needs

needs("numpy", "apt-get install python3-numpy")

import numpy as np  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


def examples(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def arrays():
    """What the examples take as given."""
    random = np.random.default_rng(1)
    return {
        "weights": random.standard_normal((128, 31, 31), np.float32),
        "bias": random.standard_normal(128, np.float32),
        "x": random.standard_normal((1, 56, 56, 128), np.float32),
    }


def tensors():
    import torch

    return {"weight": torch.randn(128, 1, 31, 31), "bias": torch.randn(128), "x": torch.randn(1, 128, 56, 56)}


class Examples(unittest.TestCase):
    def of(self, page, count):
        blocks = examples(page)
        self.assertEqual(len(blocks), count, f"{page}: how many examples it has")
        for block in blocks:
            of_torch = "torch" in block
            if of_torch and importlib.util.find_spec("torch") is None:
                print(f"skipped: an example of {page}: {sys.executable} has no torch")
                continue
            names = tensors() if of_torch else arrays()
            exec(compile(block, page, "exec"), names)
            self.assertEqual(tuple(names["y"].shape), (1, 128, 56, 56) if of_torch else (1, 56, 56, 128))

    def test_readme(self):
        self.of("README.md", 1)

    def test_readme_of_the_wheel(self):
        self.of("python/README.md", 1)

    def test_page_on_python(self):
        self.of("docs/python.md", 2)


if __name__ == "__main__":
    unittest.main()
