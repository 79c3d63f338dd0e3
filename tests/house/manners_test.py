#!/usr/bin/env python3
"""The library never prints, aborts or exits: its sources name nothing that does, and the check that says so finds what would."""
import pathlib
import re
import sys
import unittest

import arrows

HOUSE = pathlib.Path(__file__).resolve().parents[2]
BOXES = ["core", "lib", "jit", "tuner", "measure", "integrations"]

# core::log talks, to stderr where REPLK_VERBOSE asks for it; a program says what it found.
TALKS = {"core/log.cpp", "measure/fit_machine.cpp"}

RUDE = re.compile(r"""\b(stdout|stderr|iostream|cout|cerr|clog|fmt::print|std::print(ln)?|v?printf|puts|putchar|perror)\b
                      |\b(abort|exit|_exit|_Exit|quick_exit|terminate|assert|raise|__builtin_trap)\s*\(""", re.VERBOSE)


def rude_lines(text):
    """The number of each line that prints, aborts or exits, comments aside, and what it does it with."""
    for number, line in enumerate(text.splitlines(), 1):
        found = RUDE.search(line.split("//")[0])
        if found:
            yield number, found[0]


def sources():
    for file in arrows.sources(HOUSE):
        if file.split("/")[0] in BOXES:
            yield file, (HOUSE / file).read_text()


PLANTED = [
    ('std::fprintf(stderr, "no");', True),
    ('std::cerr << "no";', True),
    ('fmt::print("no");', True),
    ("#include <iostream>", True),
    ("if (!p) std::abort();", True),
    ("std::exit (1);", True),
    ("assert(p);", True),
    ("static_assert(sizeof(float) == 4);", False),
    ('std::snprintf(text, 8, "%d", 3);', False),
    ("return 3;  // prints to stderr", False),
    ("finish();  // then exit()", False),
    ("on_exit_of(thread);", False),
]


class Manners(unittest.TestCase):
    def test_the_library_has_them(self):
        found = [f"{file}:{number}: {what}" for file, text in sources() if file not in TALKS
                 for number, what in rude_lines(text)]
        self.assertEqual(found, [])

    def test_what_talks_does(self):
        talking = {file for file, text in sources() if list(rude_lines(text))}
        self.assertLessEqual(TALKS, talking)

    def test_every_box_is_looked_at(self):
        self.assertEqual({file.split("/")[0] for file, _ in sources()}, set(BOXES))

    def test_planted_lines(self):
        for line, rude in PLANTED:
            with self.subTest(line=line):
                self.assertEqual([number for number, _ in rude_lines(f"int a;\n{line}\n")], [2] if rude else [])


if __name__ == "__main__":
    sys.exit(unittest.main())
