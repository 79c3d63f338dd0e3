#!/usr/bin/env python3
"""The house keeps its arrows, and the check that says so catches what breaks them."""
import pathlib
import sys
import tempfile
import unittest

import arrows

HOUSE = pathlib.Path(__file__).resolve().parents[2]

HEADERS = ["core/error.hpp", "jit/x64/code.hpp", "tuner/tuner.hpp", "lib/depthwise/plan.hpp", "lib/dense/gemm.hpp",
           "lib/dense/onednn/loaded.hpp", "lib/dense/onednn/primitives.hpp",
           "lib/model/network.hpp", "lib/include/replk/replk.h", "measure/onednn/peer.hpp", "cli/commands.hpp"]

# A file, a line planted in it, and whether that line is a violation.
PLANTED = [
    ("core/error.cpp", '#include "core/error.hpp"', False),
    ("core/error.cpp", '#include "jit/x64/code.hpp"', True),
    ("core/error.cpp", '  #  include "depthwise/plan.hpp"', True),
    ("jit/x64/code.cpp", '#include "core/error.hpp"', False),
    ("jit/x64/code.cpp", '#include "tuner/tuner.hpp"', True),
    ("jit/x64/code.cpp", '#include "depthwise/plan.hpp"', True),
    ("jit/x64/code.cpp", '#include "../lib/depthwise/plan.hpp"', True),
    ("tuner/tuner.cpp", '#include "jit/x64/code.hpp"', True),
    ("lib/depthwise/plan.cpp", '#include "tuner/tuner.hpp"', False),
    ("lib/depthwise/plan.cpp", '#include "model/network.hpp"', True),
    ("lib/depthwise/plan.cpp", '#include "dense/gemm.hpp"', True),
    ("lib/depthwise/plan.cpp", "#include <replk/replk.h>", True),
    ("lib/model/network.cpp", '#include "depthwise/plan.hpp"', False),
    ("lib/model/network.cpp", '#include "cli/commands.hpp"', True),
    ("lib/model/network.cpp", '#include "measure/onednn/peer.hpp"', True),
    ("lib/include/replk/replk.hpp", '#include "core/error.hpp"', True),
    ("lib/include/replk/replk.hpp", '#include "replk/replk.h"', False),
    ("cli/bench.cpp", '#include "measure/onednn/peer.hpp"', False),
    ("cli/bench.cpp", '#include "fmt/format.h"', True),
    ("examples/hello.cpp", "#include <replk/replk.h>", False),
    ("examples/hello.cpp", '#include "core/error.hpp"', True),
    ("jit/x64/code.cpp", "#include <xbyak/xbyak.h>", False),
    ("jit/kernels/gemm.cpp", "#include <xbyak/xbyak.h>", False),
    ("jit/program/lower.cpp", "#include <xbyak/xbyak.h>", True),
    ("jit/program/lower.cpp", '#include "jit/x64/code.hpp"', True),
    ("tests/jit/x64/code_test.cpp", "#include <xbyak/xbyak.h>", True),
    ("lib/depthwise/plan.cpp", '#include "xbyak/xbyak.h"', True),
    ("lib/dense/gemm.cpp", "#include <oneapi/dnnl/dnnl.hpp>", True),
    ("lib/dense/weights.hpp", '#include "dense/onednn/loaded.hpp"', True),
    ("lib/dense/dense.cpp", '#include "dense/onednn/primitives.hpp"', False),
    ("lib/dense/onednn/primitives.cpp", "#include <oneapi/dnnl/dnnl.hpp>", False),
    ("measure/onednn/peer.cpp", "#include <dnnl.hpp>", False),
    ("cli/info.cpp", "#include <dnnl.h>", True),
    ("lib/model/network.cpp", "#include <oneapi/dnnl/dnnl.hpp>", True),
    ("core/openmp.hpp", "#include <omp.h>", False),
    ("core/threads.cpp", "#include <omp.h>", True),
    ("core/threads.cpp", "#pragma omp parallel", True),
    ("core/cpu.cpp", "#include <omp.h>", True),
    ("lib/elementwise/norm.cpp", "  #pragma omp parallel for", True),
]


class Arrows(unittest.TestCase):
    def test_the_house_keeps_them(self):
        self.assertEqual(list(arrows.violations(HOUSE)), [])

    def test_the_house_is_looked_at(self):
        boxes = {arrows.box_of(file) for file in arrows.sources(HOUSE)}
        self.assertLessEqual({"core", "jit/program", "jit/x64", "jit/kernels", "tuner", "lib/depthwise", "tests"}, boxes)

    def test_planted_lines(self):
        for file, line, wrong in PLANTED:
            with self.subTest(file=file, line=line), tempfile.TemporaryDirectory() as root:
                for path in HEADERS + [file]:
                    target = pathlib.Path(root, path)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.touch()
                pathlib.Path(root, file).write_text(f"// A comment.\n{line}\n")
                found = list(arrows.violations(root))
                self.assertEqual(len(found), 1 if wrong else 0, found)
                if wrong:
                    self.assertTrue(found[0].startswith(f"{file}:2: "), found[0])


if __name__ == "__main__":
    sys.exit(unittest.main())
