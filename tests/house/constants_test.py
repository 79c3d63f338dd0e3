#!/usr/bin/env python3
"""What an executor decides by is in the key of what was measured: its integer constants are members of a struct
`...Constants`, all of which is in the key (jit::values_of), or are said here to need no place in it."""
import pathlib
import re
import sys
import unittest

import arrows

HOUSE = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ["lib/depthwise/portable/", "lib/depthwise/direct/", "lib/depthwise/row_spectral/", "lib/depthwise/spectral/",
           "lib/depthwise/stripes/",
           "lib/depthwise/gradient/", "lib/dense/"]

LEGAL = "a limit of what is legal: a record is read anew"
CANDIDATES = "what is tried, not how it runs"
WEIGHTS = "packs weights, which no race times"
REFERENCE = "of the reference that results are compared with"
NOT_IN_THE_KEY = {
    ("lib/depthwise/portable/portable.cpp", "lanes"): WEIGHTS,
    ("lib/depthwise/direct/geometry.cpp", "max_code_fmas"): LEGAL,
    ("lib/depthwise/direct/geometry.cpp", "max_thread_workspace"): LEGAL,
    ("lib/depthwise/direct/geometry.cpp", "max_displacement"): LEGAL,
    ("lib/depthwise/direct/executor.cpp", "half"): WEIGHTS,
    ("lib/depthwise/row_spectral/geometry.cpp", "max_length"): LEGAL,
    ("lib/depthwise/spectral/transformed_columns.cpp", "max_column_length"): LEGAL,
    ("lib/depthwise/row_spectral/geometry.cpp", "max_products"): LEGAL,
    ("lib/depthwise/row_spectral/geometry.cpp", "max_split"): LEGAL,
    ("lib/depthwise/row_spectral/geometry.cpp", "least_outputs"): LEGAL,
    ("lib/depthwise/row_spectral/geometry.hpp", "least_transformed"): LEGAL,
    ("lib/depthwise/row_spectral/geometry.cpp", "max_workspace"): LEGAL,
    ("lib/depthwise/row_spectral/geometry.cpp", "way"): CANDIDATES,
    ("lib/depthwise/row_spectral/geometry.cpp", "ways"): CANDIDATES,
    ("lib/depthwise/row_spectral/algorithm.cpp", "most"): CANDIDATES,
    ("lib/depthwise/row_spectral/weights.cpp", "most_lanes"): WEIGHTS,
    ("lib/depthwise/row_spectral/weights.cpp", "most_taps"): WEIGHTS,
    ("lib/depthwise/row_spectral/weights.cpp", "most_power"): WEIGHTS,
    ("lib/depthwise/spectral/spectral.cpp", "least_taps"): CANDIDATES,
    ("lib/depthwise/spectral/spectral.cpp", "stripe"): CANDIDATES,
    ("lib/depthwise/stripes/stripes.cpp", "most"): CANDIDATES,
    ("lib/depthwise/gradient/turned.cpp", "together"): WEIGHTS,
    ("lib/depthwise/gradient/turned.cpp", "most_side"): LEGAL,
    ("lib/depthwise/gradient/turned.cpp", "most_line"): LEGAL,
    ("lib/depthwise/gradient/weight_choice.cpp", "most_tilings"): CANDIDATES,
    ("lib/depthwise/gradient/weight_direct.cpp", "spare_registers"): CANDIDATES,
    ("lib/depthwise/gradient/weight_direct_executor.cpp", "most_bytes"): LEGAL,
    ("lib/depthwise/gradient/weight_direct_executor.cpp", "most_width"): LEGAL,
    ("lib/depthwise/gradient/weight_direct_executor.cpp", "most_products"): LEGAL,
    ("lib/depthwise/gradient/weight_direct_executor.cpp", "most_column_groups"): LEGAL,
    ("lib/depthwise/gradient/weight_portable.cpp", "most_taps"): LEGAL,
    ("lib/depthwise/gradient/weight_reference.cpp", "few_taps"): REFERENCE,
    ("lib/depthwise/gradient/weight_spectral_geometry.cpp", "least_taps"): LEGAL,
    ("lib/depthwise/gradient/weight_spectral_geometry.cpp", "least_along"): LEGAL,
    ("lib/depthwise/gradient/weight_spectral_geometry.cpp", "max_products"): LEGAL,
    ("lib/depthwise/gradient/weight_spectral_geometry.cpp", "max_split"): LEGAL,
    ("lib/depthwise/gradient/weight_spectral_geometry.cpp", "max_tile_bytes"): LEGAL,
    ("lib/dense/choice.cpp", "kSamples"): CANDIDATES,
    ("lib/dense/narrow_trial.cpp", "sample_count"): CANDIDATES,
    ("lib/dense/dense.cpp", "max_channels"): LEGAL,
    ("lib/dense/dense.cpp", "max_extent"): LEGAL,
    ("lib/dense/dense.cpp", "max_elements"): LEGAL,
    ("lib/dense/dense.cpp", "longest_int8_sum"): LEGAL,
}

DECLARATION = re.compile(r"\bconstexpr\s+(?:const\s+)?(?:int|long|unsigned|(?:std::)?(?:size_t|u?int\d+_t))\s+([^;]+);")
VALUE = re.compile(r"(\w+)\s*=\s*([^,]+)")


def constants(text):
    """The names of the integer constants that a source gives a value of their own, comments and structs' members
    aside."""
    text = re.sub(r"//[^\n]*", "", text)
    for declaration in DECLARATION.finditer(text):
        for name, value in VALUE.findall(declaration[1]):
            if re.match(r"[^a-zA-Z_]*\d|.*<<|\w+_MAX\b|std::\w+\{", value) and not re.search(r"\w*[cC]onstants\b", value):
                yield name


def found():
    for file in arrows.sources(HOUSE):
        if file.startswith(tuple(FOLDERS)):
            for name in constants((HOUSE / file).read_text()):
                yield file, name


PLANTED = [
    ("constexpr int window_bytes = 8 << 10;  // of packed rows", ["window_bytes"]),
    ("constexpr int rows = 2, pairs = 4;", ["rows", "pairs"]),
    ("    static constexpr std::int64_t unit = 8;", ["unit"]),
    ("constexpr std::size_t most = std::size_t{64} << 20;", ["most"]),
    ("constexpr std::int64_t far = INT32_MAX / 2;", ["far"]),
    ("constexpr int block = PortableConstants().block;", []),
    ("constexpr int rows = constants.rows, lanes = constants.lanes;", []),
    ("// constexpr int said = 3;", []),
    ("struct DenseConstants {\n  std::int32_t chain = 512;\n};", []),
    ("constexpr double rate = 2e9;", []),
]


class Constants(unittest.TestCase):
    def test_each_is_in_the_key_or_need_not_be(self):
        unseen = [f"{file}: {name}" for file, name in found() if (file, name) not in NOT_IN_THE_KEY]
        self.assertEqual(unseen, [], "a member of the folder's ...Constants, or a line above that says why not")

    def test_none_is_said_that_is_not_there(self):
        self.assertEqual(set(NOT_IN_THE_KEY) - set(found()), set())

    def test_planted_constants(self):
        for text, names in PLANTED:
            with self.subTest(text=text):
                self.assertEqual(list(constants(text)), names)


if __name__ == "__main__":
    sys.exit(unittest.main())
