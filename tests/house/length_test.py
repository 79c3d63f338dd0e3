#!/usr/bin/env python3
"""No function is longer than 60 lines, and the check that says so finds one that is."""
import pathlib
import re
import sys
import unittest

import arrows

HOUSE = pathlib.Path(__file__).resolve().parents[2]
BOXES = ["core", "lib", "jit", "tuner", "measure", "cli", "bench"]
MOST_LINES = 60

OTHER = re.compile(r"\s*(namespace|class|struct|union|enum|if|else|for|while|do|switch|try|extern)\b")
BETWEEN = re.compile(r"\s*(//|#|$|template\b.*>$)")  # what stands before a head
NAME = re.compile(r"(operator *(?:\(\)|[^\s(]+)|[\w:~]+|\]) ?\(")  # of a lambda: its bracket


def depth(line):
    return re.match(" *", line)[0]


def functions(lines):
    """The number of the first line, the name and the length of every function, its head and last brace counted; what
    lies within one is not looked at. The sources are laid out by clang-format: a head ends in `{`, a body with the next
    line as deep as the head's first that begins with `}`."""
    head, begin = "", 0
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if not head and BETWEEN.match(line):
            while line.endswith("\\"):  # a macro goes on
                line = lines[number]
                number += 1
            continue
        if head.endswith(")") and head.count("(") == head.count(")") and depth(line) == depth(lines[begin - 1]):
            head = ""  # it was a macro's call
        if not head:
            begin = number
        head += line.split(" //")[0].rstrip()
        if not head.endswith(("{", "}", "};", ";", ":")):
            continue
        name = NAME.search(head)
        if head.endswith("{") and not head.endswith("= {") and name and not OTHER.match(head):
            end = depth(head) + "}"
            while number < len(lines) and not (lines[number].startswith(end) and not lines[number].endswith("{")):
                number += 1  # what catches for a whole function is of it
            number += 1
            yield begin, name[1], number - begin + 1
        head = ""


def sources():
    """Each file, from the root, with its lines."""
    for file in arrows.sources(HOUSE):
        if file.split("/")[0] in BOXES:
            yield file, (HOUSE / file).read_text().splitlines()


def too_long(lines):
    return [found for found in functions(lines) if found[2] > MOST_LINES]


def planted(head, length, within=""):
    """A function of `length` lines, within something and after something."""
    body = [within + "  for (int i = 0; i < 3; i++) {", within + "  }", ""]
    body += [within + "  f(1);"] * (length - len(head) - len(body) - 1)
    return ["namespace a {", "", "void before() {", "}"] + [within + line for line in head] + body + [within + "}", "}"]


HEADS = [
    ("f", ["int f(int a) {"], ""),
    ("B::f", ["std::vector<int> B::f(int a,", "                      int b) const {"], ""),
    ("B::B", ["B::B(int a)", "    : a_(a),", "      b_{a} {  // and why"], ""),
    ("f", ["auto f(int a) -> int {"], "  "),
    ("operator()", ["void operator()(int a) override {"], "    "),
    ("]", ["const auto f = [&](int a) {"], ""),
]


class Length(unittest.TestCase):
    def test_no_function_is_too_long(self):
        found = [f"{file}:{line} {name} {length}" for file, lines in sources()
                 for line, name, length in too_long(lines)]
        print("\n".join(found), end="\n" if found else "")
        self.assertFalse(found, f"allowed: {MOST_LINES} lines")

    def test_the_house_is_looked_at(self):
        boxes = {file.split("/")[0] for file, lines in sources() if list(functions(lines))}
        self.assertEqual(boxes, set(BOXES))

    def test_planted_functions(self):
        for name, head, within in HEADS:
            with self.subTest(head=head):
                self.assertEqual(too_long(planted(head, MOST_LINES, within)), [])
                self.assertEqual(too_long(planted(head, MOST_LINES + 1, within)), [(5, name, MOST_LINES + 1)])

    def test_what_a_function_catches_is_of_it(self):
        lines = ["int main() try {"] + ["  f();"] * 30 + ["} catch (int) {"] + ["  g();"] * 27
        self.assertEqual(too_long(lines + ["}"]), [])
        self.assertEqual(too_long(lines + ["  g();", "}"]), [(1, "main", MOST_LINES + 1)])

    def test_what_is_no_function(self):
        self.assertEqual(too_long(["MACRO(a, b)", "MACRO(c)", *planted(HEADS[0][1], MOST_LINES)]), [])
        for head in ["namespace a {", "struct alignas(64) A {", "const std::map<int, void (*)()> table = {"]:
            with self.subTest(head=head):
                self.assertEqual(too_long(planted([head], MOST_LINES + 1)), [])


if __name__ == "__main__":
    sys.exit(unittest.main())
