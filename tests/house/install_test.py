#!/usr/bin/env python3
"""Installs the library into an empty prefix, moves it, and builds and runs the C and the C++ example against it.

install_test.py BUILD VERSION SOVERSION CMAKE GENERATOR CC CXX   (BUILD: a configured and built tree of a shared library)
"""
import ctypes
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

BUILD, VERSION, SOVERSION, CMAKE, GENERATOR, CC, CXX = sys.argv[1:8]
EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
# What the examples compute: a mean over the taps that meet the map, and a cross of stripes of 0.01 with bias -1.
EXPECTED = {"c": (16 * 16 / 961, 1), "cpp": (0.01 * (26 * 3 + 3 * 26 + 3 * 3) - 1, 0.01 * (2 * 255 + 25) - 1)}


def run(*command, **environment):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                            env={**os.environ, **environment})
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.work = pathlib.Path(cls.directory.name)
        run(CMAKE, "--install", BUILD, "--prefix", cls.work / "first")
        cls.prefix = cls.work / "moved"  # an installed tree knows nothing of where it was installed
        (cls.work / "first").rename(cls.prefix)
        cls.library = next(cls.prefix.glob("lib*/**/libreplk_cpu.so"))

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def check_program(self, program, language):
        output = run(program, LD_LIBRARY_PATH="")
        found = [float(value) for value in re.search(r"corner (\S+), centre (\S+)", output).groups()]
        for value, expected in zip(found, EXPECTED[language]):
            self.assertAlmostEqual(value, expected, delta=1e-4)
        loaded = re.findall(r"(\S+) => (\S+)", run("ldd", program, LD_LIBRARY_PATH=""))
        ours = {name: path for name, path in loaded if re.match("libreplk_cpu|libdnnl", name)}
        self.assertIn(f"libreplk_cpu.so.{SOVERSION}", ours)
        for path in ours.values():
            self.assertTrue(path.startswith(str(self.library.parent)), ours)

    def test_find_package(self):
        tree = self.work / "examples"
        run(CMAKE, "-G", GENERATOR, "-S", EXAMPLES, "-B", tree, f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DCMAKE_C_COMPILER={CC}",
            f"-DCMAKE_CXX_COMPILER={CXX}")
        run(CMAKE, "--build", tree)
        self.check_program(tree / "depthwise_c", "c")
        self.check_program(tree / "depthwise_cpp", "cpp")
        run(tree / "network_c", LD_LIBRARY_PATH="")

    def test_pkg_config(self):
        where = {"PKG_CONFIG_PATH": str(self.library.parent / "pkgconfig")}
        self.assertEqual(run("pkg-config", "--modversion", "replk_cpu", **where).strip(), VERSION)
        flags = run("pkg-config", "--cflags", "--libs", "replk_cpu", **where).split()
        rpath = f"-Wl,-rpath,{self.library.parent}"
        for language, compiler in (("c", [CC]), ("cpp", [CXX, "-std=c++20"])):
            program = self.work / f"pkg_config_{language}"
            run(*compiler, EXAMPLES / f"depthwise.{language}", "-o", program, *flags, rpath)
            self.check_program(program, language)

    def test_exports_replk_and_nothing_else(self):
        lines = run("nm", "-D", "--defined-only", "--without-symbol-versions", self.library).splitlines()
        symbols = [line.split()[-1] for line in lines]
        self.assertIn("replk_version", symbols)
        self.assertEqual([s for s in symbols if not s.startswith("replk_")], [])

    def test_has_a_soname_and_looks_beside_itself(self):
        dynamic = run("readelf", "-d", self.library)
        self.assertIn(f"[libreplk_cpu.so.{SOVERSION}]", dynamic)
        self.assertEqual(os.readlink(self.library), f"libreplk_cpu.so.{SOVERSION}")
        self.assertRegex(dynamic, r"RUNPATH.*\[\$ORIGIN\]")
        self.assertTrue(list(self.library.parent.glob("libdnnl.so.3")))

    def test_knows_its_version(self):
        version = ctypes.CDLL(str(self.library)).replk_version
        version.restype = ctypes.c_char_p
        self.assertEqual(version().decode(), VERSION)

    def test_the_program_runs(self):
        program = self.prefix / "bin" / "replk"
        self.assertIn(VERSION, run(program, "--version", LD_LIBRARY_PATH=""))

    def test_the_program_finds_the_networks_that_ship(self):
        picture = EXAMPLES / "fashion-mnist" / "0000-ankle-boot.png"
        result = json.loads(run(self.prefix / "bin" / "replk", "classify", picture, "--model", "replknet-nano", "--json"))
        self.assertEqual(result["weights"], str(self.prefix / "share" / "replk" / "models" / "replknet-nano.safetensors"))

    def test_installs_no_private_header(self):
        headers = {p.relative_to(self.prefix).parts[:2] for p in self.prefix.rglob("*.h*")}
        self.assertEqual(headers, {("include", "replk")})


if __name__ == "__main__":
    sys.exit(unittest.main(argv=sys.argv[:1]))
