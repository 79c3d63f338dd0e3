#!/usr/bin/env python3
"""A source includes the standard header of each function that it calls, itself or by its own header: those of another
library's next release include less (GCC 14's <string> no longer brings <algorithm>)."""
import pathlib
import re
import sys
import unittest

import arrows

HOUSE = pathlib.Path(__file__).resolve().parents[2]
ROOTS = ["", "lib/", "lib/include/"]  # what names in quotes are found in

# The headers that others tend to bring along, and what of each is used here.
NAMES = {
    "algorithm": "copy|copy_n|copy_if|copy_backward|fill|fill_n|sort|stable_sort|find|find_if|find_if_not|max_element|"
                 "min_element|minmax_element|minmax|min|max|clamp|reverse|reverse_copy|rotate|transform|equal|mismatch|"
                 "count|count_if|all_of|any_of|none_of|for_each|generate|shuffle|unique|remove_if|replace|lower_bound|"
                 "upper_bound|equal_range|binary_search|nth_element|partial_sort|is_sorted|partition|next_permutation",
    "cmath": "sqrt|fabs|exp|log|log2|pow|sin|cos|erf|erfc|isfinite|isnan|isinf|signbit|ceil|floor|round|nearbyint|fma|"
             "ldexp|frexp|lround|copysign|tanh|hypot",
    "cstring": "memcpy|memset|memcmp|memmove|strlen|strcmp|strncmp|strchr|strerror",
    "functional": "function|ref|cref|hash|less|greater|plus",
    "numeric": "accumulate|iota|inner_product|gcd|lcm|reduce|partial_sum",
}
CALLS = {header: re.compile(rf"\bstd::(?:ranges::)?(?:{names})\s*[(<]") for header, names in NAMES.items()}


def included(text):
    return set(re.findall(r"#include <([^>]+)>", text))


def missing(text, own_header=""):
    """The headers that a source calls functions of and does not include."""
    code = re.sub(r"//.*", "", text)
    have = included(text) | included(own_header)
    return [header for header, calls in CALLS.items() if header not in have and calls.search(code)]


def own_header(file, text):
    """The text of the header that a .cpp file includes first, in quotes."""
    first = re.search(r'#include "([^"]+)"', text)
    if first and file.endswith(".cpp"):
        for root in ROOTS:
            if (HOUSE / root / first[1]).exists():
                return (HOUSE / root / first[1]).read_text()
    return ""


class Includes(unittest.TestCase):
    def test_what_would_be_missed_is_found(self):
        self.assertEqual(missing("std::copy_n(a, 3, b);"), ["algorithm"])
        self.assertEqual(missing("#include <algorithm>\nstd::copy_n(a, 3, b);"), [])
        self.assertEqual(missing("std::copy_n(a, 3, b);", "#include <algorithm>"), [])
        self.assertEqual(missing("// std::copy_n(a, 3, b)"), [])
        self.assertEqual(missing("std::function<void()> f; std::iota(a, b, 0);"), ["functional", "numeric"])

    def test_every_source(self):
        files = list(arrows.sources(HOUSE))
        self.assertGreater(len(files), 300)
        wrong = []
        for file in files:
            text = (HOUSE / file).read_text()
            wrong += [f"{file}: <{header}>" for header in missing(text, own_header(file, text))]
        self.assertEqual(wrong, [], "to be included")


if __name__ == "__main__":
    sys.exit(unittest.main())
