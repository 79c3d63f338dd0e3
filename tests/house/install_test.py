#!/usr/bin/env python3
"""Installs the library into an empty prefix, moves it, and builds and runs a C and a C++ program against it.

install_test.py BUILD VERSION SOVERSION CMAKE GENERATOR CC CXX   (BUILD: a configured and built tree of a shared library)
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

BUILD, VERSION, SOVERSION, CMAKE, GENERATOR, CC, CXX = sys.argv[1:8]
CONSUMER = pathlib.Path(__file__).resolve().parent / "consumer"


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

    def check_program(self, program):
        self.assertEqual(run(program, LD_LIBRARY_PATH="").strip(), VERSION)
        loaded = re.findall(r"(\S+) => (\S+)", run("ldd", program, LD_LIBRARY_PATH=""))
        ours = {name: path for name, path in loaded if re.match("libreplk_cpu|libdnnl", name)}
        self.assertIn(f"libreplk_cpu.so.{SOVERSION}", ours)
        for path in ours.values():
            self.assertTrue(path.startswith(str(self.library.parent)), ours)

    def test_find_package(self):
        tree = self.work / "consumer"
        run(CMAKE, "-G", GENERATOR, "-S", CONSUMER, "-B", tree, f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DCMAKE_C_COMPILER={CC}",
            f"-DCMAKE_CXX_COMPILER={CXX}")
        run(CMAKE, "--build", tree)
        self.check_program(tree / "consumer_c")
        self.check_program(tree / "consumer_cpp")

    def test_pkg_config(self):
        where = {"PKG_CONFIG_PATH": str(self.library.parent / "pkgconfig")}
        self.assertEqual(run("pkg-config", "--modversion", "replk_cpu", **where).strip(), VERSION)
        flags = run("pkg-config", "--cflags", "--libs", "replk_cpu", **where).split()
        rpath = f"-Wl,-rpath,{self.library.parent}"
        for compiler, source in ((CC, "consumer.c"), (CXX, "consumer.cpp")):
            program = self.work / f"pkg_config_{source}.out"
            run(compiler, CONSUMER / source, "-o", program, *flags, rpath)
            self.check_program(program)

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

    def test_the_program_runs(self):
        program = self.prefix / "bin" / "replk"
        self.assertIn(VERSION, run(program, "--version", LD_LIBRARY_PATH=""))

    def test_installs_no_private_header(self):
        headers = {p.relative_to(self.prefix).parts[:2] for p in self.prefix.rglob("*.h*")}
        self.assertEqual(headers, {("include", "replk")})


if __name__ == "__main__":
    sys.exit(unittest.main(argv=sys.argv[:1]))
