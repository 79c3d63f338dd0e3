#!/usr/bin/env python3
"""Comments and pages: each file and member that they name exists, and a thing has the one word that docs/words.md gives it."""
import pathlib
import re
import unittest

import arrows
import docs_pages_test

HOUSE = pathlib.Path(__file__).resolve().parents[2]
# What others have, and what a reader is to put a name into.
THEIRS = {"analyze_erf.py", "dnnl.h", "dnnl.hpp", "human_categories.py", "jpeglib.h", "replknet.py", "unireplknet.py",
          "visualize_erf.py"}
PLACEHOLDER = re.compile(r"NAME|FILE")
FILE = re.compile(r"(?<![\w<])[\w./-]*\w\.(?:hpp|cpp|h|py|md)\b")
MEMBER = re.compile(r"(?<![\w:])([A-Z]\w+)::(\w+)")
WORDS = {r"feature maps?": "map", r"post-ops?": "epilogue", r"call(?:ed|s|ing)? up": "prefetch", r"whoever": "someone who"}


def comments(text):
    """(line number, text) of what C and C++ sources say to a reader."""
    block = False
    for number, line in enumerate(text.splitlines(), 1):
        if block:
            yield number, line.split("*/")[0]
            block = "*/" not in line
        elif found := re.search(r"(?<!:)//(.*)|/\*(.*)", line):
            yield number, found[1] if found[1] is not None else found[2].split("*/")[0]
            block = found[1] is None and "*/" not in found[2]


def said():
    """(where, text) of every comment and every page."""
    for file in arrows.sources(HOUSE):
        yield from ((f"{file}:{number}", text) for number, text in comments((HOUSE / file).read_text()))
    for page in docs_pages_test.pages():
        if page.name not in ("words.md", "LICENSE.md"):
            yield page.name, docs_pages_test.text_of(page)


def files():
    return {path.name for top in HOUSE.iterdir() if top.is_dir() and not top.name.startswith((".", "build"))
            for path in top.rglob("*.*")} | {path.name for path in HOUSE.glob("*.*")}


def missing_files(text, there):
    return [name for name in FILE.findall(text)
            if name.split("/")[-1] not in there | THEIRS and not PLACEHOLDER.search(name)]


def missing_members(text, sources):
    """Of classes that the sources define: members that no file which names the class has."""
    return [f"{name}::{member}" for name, member in MEMBER.findall(text)
            if any(re.search(rf"\b(?:class|struct|enum|enum class) {name}\b", source) for source in sources)
            and not any(re.search(rf"\b{name}\b", source) and re.search(rf"\b{member}\b", source) for source in sources)]


def other_words(text):
    return [f"'{found[0]}' is {word}" for other, word in WORDS.items() if (found := re.search(rf"\b{other}\b", text, re.I))]


class Words(unittest.TestCase):
    def test_files_exist(self):
        there = files()
        self.assertEqual([(where, found) for where, text in said() for found in missing_files(text, there)], [])

    def test_members_exist(self):
        sources = [re.sub(r"//.*", "", (HOUSE / file).read_text()) for file in arrows.sources(HOUSE)]
        self.assertEqual([(where, found) for where, text in said() for found in missing_members(text, sources)], [])

    def test_one_word_for_one_thing(self):
        self.assertEqual([(where, found) for where, text in said() for found in other_words(text)], [])

    def test_what_is_wrong_is_found(self):
        self.assertEqual(missing_files("as design.md has it (core/error.hpp)", files()), ["design.md"])
        self.assertEqual(missing_members("as Plan::walk, Plan::run", ["class Plan { void run(); };"]), ["Plan::walk"])
        self.assertEqual(other_words("The feature maps"), ["'feature maps' is map"])
        self.assertEqual([text for _, text in comments("int a;  // one\n/* two\nthree */\nint b;")], [" one", " two", "three "])


if __name__ == "__main__":
    unittest.main()
