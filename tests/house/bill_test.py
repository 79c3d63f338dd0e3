#!/usr/bin/env python3
"""The bill of materials names what the packages carry: bill_test.py LIBRARY PROGRAM."""
import pathlib
import re
import subprocess
import sys
import unittest

HOUSE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HOUSE / "cmake"))
import bill  # noqa: E402

FILES = sys.argv[1:3]
# What every manylinux system has (PEP 600): glibc, zlib and GCC's support library.
OF_THE_SYSTEM = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libgcc_s.so.1", "libz.so.1", "libdl.so.2", "libpthread.so.0"}
NAMES = {"libfmt": "fmt", "libjpeg": "libjpeg-turbo", "libpng16": "libpng", "libgomp": "libgomp", "libstdc++": "libstdc++"}


def needed(file):
    listed = subprocess.run(["readelf", "-d", file], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", listed)) - OF_THE_SYSTEM


def unnamed(libraries, made):
    """Those that a bill has not."""
    names = {each["name"] for each in made["components"]}
    return {library for library in libraries if NAMES.get(library.split(".so")[0]) not in names}


class Bill(unittest.TestCase):
    wheel, deb = bill.bill("wheel", "1.2.3"), bill.bill("deb", "1.2.3")

    def test_names_every_library_that_is_needed(self):
        libraries = set().union(*map(needed, FILES))
        self.assertIn("libgomp.so.1", libraries)
        self.assertEqual(unnamed(libraries, self.wheel), set())
        self.assertEqual(unnamed({"libplanted.so.1"}, self.wheel), {"libplanted.so.1"})

    def test_names_every_header_that_is_compiled_in(self):
        installed = re.search(r"foreach\(package ([^)]*)\)", (HOUSE / "cmake/Wheel.cmake").read_text())[1].split()
        known = {package for _, packages, *_ in bill.PARTS for package in packages}
        of_headers = {"libfmt-dev": "libfmt9"}  # its licence goes with the headers
        self.assertEqual({of_headers.get(each, each) for each in installed} - known, set())

    def test_is_whole(self):
        for made in self.wheel, self.deb:
            self.assertEqual((made["bomFormat"], made["specVersion"]), ("CycloneDX", "1.5"))
            self.assertEqual(made["metadata"]["component"]["version"], "1.2.3")
            for each in made["components"]:
                with self.subTest(part=each["name"]):
                    self.assertTrue(each["licenses"][0]["expression"])
                    self.assertRegex(each.get("version", "1"), r"^\S+$")

    def test_what_was_downloaded_has_its_hash(self):
        for name, file in ("onednn-cpu-gomp", "OneDnnWheels.cmake"), ("onnxruntime-headers", "OnnxRuntimeHeaders.cmake"):
            [found] = [each for each in self.wheel["components"] if each["name"] == name]
            [digest] = found["hashes"]
            self.assertRegex(digest["content"], r"^[0-9a-f]{64}$")
            self.assertIn(digest["content"], (HOUSE / "cmake" / file).read_text())

    def test_a_deb_names_no_dependency(self):
        names = {each["name"] for each in self.deb["components"]}
        self.assertEqual(names, {"xbyak", "nlohmann-json", "cli11", "onednn-cpu-gomp"})
        of_the_system = bill.bill("deb", "1.2.3", system_onednn=True)
        self.assertNotIn("onednn-cpu-gomp", {each["name"] for each in of_the_system["components"]})


if __name__ == "__main__":
    sys.argv[1:] = []
    unittest.main()
