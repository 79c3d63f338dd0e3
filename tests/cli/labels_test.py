#!/usr/bin/env python3
"""Label files: `classify --labels` and `convert.py --labels` read and refuse the same ones (docs/commands.md has the
rules). convert.py's reading needs no torch."""
import codecs
import json
import sys
import unittest

from replk import IMAGE, MODEL, ROOT, FolderTest, nano_shapes, safetensors

sys.path.append(str(ROOT / "python"))
import convert  # noqa: E402,F401  (makes replk_source: the package replk without its library)
from replk_source.convert.errors import Refused  # noqa: E402
from replk_source.convert.labels import label_text, read_labels  # noqa: E402

NAMES = ["tench", "Köter", "金魚", "🐦"]
LINES = "\n".join(NAMES)
OBJECT = {str(index): name for index, name in enumerate(NAMES)}

# What a file holds; four names are read from each.
GOOD = {
    "lines": LINES.encode(),
    "a line end at the end": f"{LINES}\n".encode(),
    "Windows lines": LINES.replace("\n", "\r\n").encode(),
    "empty lines at the end": f"{LINES}\r\n\n\n".encode(),
    "a byte-order mark": codecs.BOM_UTF8 + LINES.encode(),
    "UTF-16 as Windows writes it": codecs.BOM_UTF16_LE + LINES.replace("\n", "\r\n").encode("utf-16-le"),
    "UTF-16 the other way round": codecs.BOM_UTF16_BE + LINES.encode("utf-16-be"),
    "an array": json.dumps(NAMES).encode(),
    "an array without escapes, over lines": json.dumps(NAMES, ensure_ascii=False, indent=2).encode(),
    "blanks before an array": b" \r\n\t" + json.dumps(NAMES).encode() + b"\n",
    "a mark and blanks before an array": codecs.BOM_UTF8 + b"\n " + json.dumps(NAMES).encode(),
    "an array in UTF-16": codecs.BOM_UTF16_LE + json.dumps(NAMES, ensure_ascii=False).encode("utf-16-le"),
    "an object": json.dumps(OBJECT).encode(),
    "an object in another order": json.dumps(dict(reversed(OBJECT.items())), indent=1).encode(),
}
# Names of another kind, and what they become.
ODD = {
    b'["a\\nb", "\\u0000\\u007f", "", ""]': ["a b", "  ", "", ""],
    b'["[unused]", "{", " x ", "\\"y\\""]': ["[unused]", "{", " x ", '"y"'],
    b"a\tb\n\n c \rd\nx": ["a b", "", " c  d", "x"],
}
# What is refused, and what the reason names.
BAD = {
    b"caf\xe9\nb\nc\nd\n": "UTF-8",
    b"\xff\xfea\x00\n\x00b": "UTF-",
    b"\xff\xfe\x00\xd8\n\x00b\x00\n\x00c\x00\n\x00d\x00": "UTF-",
    b'["a", "b", "c", "d"': "JSON",
    b"{0: 'a', 1: 'b', 2: 'c', 3: 'd'}": "JSON",
    b"[unused]\nb\nc\nd": "JSON",
    b'["a", "b", 3, "d"]': "index 2",
    b'["a", 1e999, "c", "d"]': "JSON",
    b'[["n1", "a"], ["n2", "b"], ["n3", "c"], ["n4", "d"]]': "index 0",
    b'{"0": "a", "1": "b", "2": "c", "4": "d"}': "index 3",
    b'{"0": "a", "1": "b", "02": "c", "3": "d"}': "index 2",
    b'{"a": 0, "b": 1, "c": 2, "d": 3}': "index 0",
    b'["\\ud800", "b", "c", "d"]': "",
    b"[" * 100000: "",
}


class Labels(FolderTest):
    def setUp(self):
        super().setUp()
        self.weights = self.write_weights("weights.safetensors", None)

    def write_weights(self, name, metadata):
        # Of a network that tells four classes apart, the first one the most probable for whatever it sees, and so on.
        return self.file(name, safetensors(nano_shapes(len(NAMES)), metadata, given={"head.bias": [4.0, 3.0, 2.0, 1.0]}))

    def classify(self, weights, *options):
        return "classify", IMAGE, "--model", MODEL, "--size", "32", "--threads", "1", "--weights", weights, *options

    def labels(self, *arguments):
        return [guess["label"] for guess in self.json(*self.classify(*arguments))["images"][0]["top"]]

    def test_what_is_read(self):
        for what, names in [*((content, NAMES) for content in GOOD.values()), *ODD.items()]:
            path = self.file("labels", what)
            self.assertEqual(self.labels(self.weights, "--labels", path), names, what)
            self.assertEqual(read_labels(path), names, what)

    def test_what_convert_writes_is_read_as_it_was(self):
        for names in (NAMES, *ODD.values()):
            weights = self.write_weights("labelled.safetensors", {"labels": label_text(names)})
            self.assertEqual(self.labels(weights), names)

    def test_what_is_refused(self):
        for content, reason in BAD.items():
            path = self.file("labels", content)
            self.refuse(*self.classify(self.weights, "--labels", path), names=[path, "labels", reason])
            with self.assertRaises(Refused) as refused:
                read_labels(path)
            for part in (str(path), "labels", reason):
                self.assertIn(part, str(refused.exception))
        self.file("labels", b"x\n" * (8 << 20) + b"y")
        self.refuse(*self.classify(self.weights, "--labels", path), names=[path, "more than 16777216 bytes"])
        with self.assertRaisesRegex(Refused, "more than 16777216 bytes"):
            read_labels(path)


if __name__ == "__main__":
    unittest.main()
