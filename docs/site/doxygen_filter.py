#!/usr/bin/env python3
"""A public header as Doxygen reads it: the comments of replk.h are plain C, and those of members in replk.hpp plain C++, which
Doxygen takes for no documentation. doxygen_filter.py FILE prints FILE with its lines where they were.

A comment before a declaration or behind a member documents it, /* ---- Title ---- */ begins a group (c.md shows each), and
any other comment is passed over."""
import re
import sys

GROUP = re.compile(r"/\* ---- (.*?) ---- \*/$")


def group(title):
    """The name that c.md gives it: "Errors" is c_errors."""
    return "c_" + re.sub(r"\W+", "_", title.lower()).strip("_")


def of_c(lines):
    opened = False
    for at, line in enumerate(lines):
        if title := GROUP.match(line):
            yield ("/** @} */ " if opened else "") + f"/** @addtogroup {group(title[1])} {title[1]} */ /** @{{ */"
            opened = True
            continue
        if opened and lines[at + 1 : at + 3] == ["#ifdef __cplusplus", "}"]:
            opened = False
            yield "/** @} */"
            continue
        if before := re.match(r"( *)/\* (?!clang-format)", line):
            close = next(i for i in range(at, len(lines)) if "*/" in lines[i])
            if re.match(r" *[^\s#]", lines[close + 1]):
                line = f"{before[1]}/** {line[before.end():]}"
        else:
            line = re.sub(r"(?<=\S)( +)/\* ", r"\1/**< ", line)
        yield line


def of_cpp(lines):
    for line in lines:
        yield re.sub(r"([;,}] +)// ", r"\1///< ", line)


def main():
    lines = open(sys.argv[1], encoding="utf-8").read().split("\n")
    print("\n".join((of_cpp if sys.argv[1].endswith(".hpp") else of_c)(lines)), end="")


if __name__ == "__main__":
    main()
