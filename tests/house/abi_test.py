#!/usr/bin/env python3
"""The ABI is what the last release had, or more: abi_test.py CC HEADER VERSION LIBRARY."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

import abi

COMPILER, HEADER, VERSION, LIBRARY = sys.argv[1:5]
KEPT = pathlib.Path(__file__).parent / "abi"
OLD_HEADER = pathlib.Path(__file__).resolve().parents[1] / "api/header_0.1.0/replk/replk.h"

HEADER_OF_ONE = """#include <stddef.h>
#include <stdint.h>
#define REPLK_API
typedef struct one { size_t struct_size; int32_t first; %s } one;
typedef struct bare { int32_t a%s; } bare;
enum { REPLK_X = %s };
REPLK_API %s one_run(const one* plan, void (*call)(int), int32_t count);
"""


def kept(version):
    return (KEPT / f"{version}.txt").read_text().splitlines()


class Abi(unittest.TestCase):
    now = abi.dump(COMPILER, HEADER)

    def test_is_the_one_that_is_kept(self):
        self.assertEqual(self.now, kept(VERSION), f"abi.py {COMPILER} {HEADER} > tests/house/abi/{VERSION}.txt, and a line in CHANGELOG.md")

    def test_breaks_no_release(self):
        releases = sorted(KEPT.glob("*.txt"))
        self.assertGreaterEqual(len(releases), 2)
        for release in releases:
            with self.subTest(release=release.stem):
                self.assertEqual(list(abi.breaks(release.read_text().splitlines(), set(self.now))), [])

    def test_the_first_release_is_its_header(self):
        self.assertEqual(abi.dump(COMPILER, OLD_HEADER), kept("0.1.0"))

    def test_the_library_exports_these_functions_and_no_others(self):
        listed = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], check=True, capture_output=True, text=True).stdout
        self.assertEqual({line.split()[-1] for line in listed.splitlines() if line.split()[1] in "TW"}, abi.functions(self.now))

    def test_planted_changes(self):
        def of(extra="", bare="", value="1", result="int"):
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)
            header = pathlib.Path(folder.name) / "one.h"
            header.write_text(HEADER_OF_ONE % (extra, bare, value, result))
            return set(abi.dump(COMPILER, header))

        before = of("int32_t last;")
        self.assertEqual(list(abi.breaks(before, of("int32_t last; int64_t more;"))), [], "may grow at its end")
        for what, changed in {"a member gone": of(), "a member before it": of("int64_t more; int32_t last;"),
                              "another type": of("int64_t last;"), "no size in front": of("int32_t last;", bare=", b"),
                              "a value": of("int32_t last;", value="2"), "a result": of("int32_t last;", result="void")}.items():
            with self.subTest(what=what):
                self.assertNotEqual(list(abi.breaks(before, changed)), [])


if __name__ == "__main__":
    sys.argv[1:] = []
    unittest.main()
