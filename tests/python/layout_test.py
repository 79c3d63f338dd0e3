#!/usr/bin/env python3
"""The structures of python/replk/_c.py against the C header's: every size and offset. layout_test.py CC INCLUDE"""
import ctypes
import pathlib
import subprocess
import sys
import tempfile
import unittest

from needs import needs

CC, INCLUDE = sys.argv[1:3]
needs("numpy", "apt-get install python3-numpy")

from replk import _c  # noqa: E402

STRUCTURES = {
    "replk_cpu_info": _c.CpuInfo,
    "replk_tuning": _c.Tuning,
    "replk_depthwise_options": _c.DepthwiseOptions,
    "replk_run_options": _c.RunOptions,
    "replk_depthwise_gradient_options": _c.GradientOptions,
    "replk_model_options": _c.ModelOptions,
    "replk_model_info": _c.ModelInfo,
}


def of_header():
    lines = ["#include <replk/replk.h>", "#include <stdio.h>", "int main(void) {"]
    for name, structure in STRUCTURES.items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        for field, _ in structure._fields_:
            lines.append(f'printf("{name}.{field} %zu\\n", offsetof({name}, {field}));')
    with tempfile.TemporaryDirectory() as folder:
        source, program = pathlib.Path(folder, "layout.c"), pathlib.Path(folder, "layout")
        source.write_text("\n".join([*lines, "return 0; }"]))
        subprocess.run([CC, f"-I{INCLUDE}", source, "-o", program], check=True)
        output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in output.splitlines())}


class Layout(unittest.TestCase):
    def test_structures_are_the_header_s(self):
        ours = {}
        for name, structure in STRUCTURES.items():
            ours[name] = ctypes.sizeof(structure)
            for field, _ in structure._fields_:
                ours[f"{name}.{field}"] = getattr(structure, field).offset
        self.assertEqual(ours, of_header())


if __name__ == "__main__":
    sys.exit(unittest.main(argv=sys.argv[:1]))
