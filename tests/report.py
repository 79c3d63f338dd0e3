#!/usr/bin/env python3
"""Tells how a test run went: report.py DIRECTORY

The directory holds ctest.xml (ctest --output-junit) and, for each GoogleTest executable that came to its end, NAME.xml.
Cases are counted where they are known; a program that died, or that is no GoogleTest, counts as one. Prints what failed
and what was skipped and why, what ran where (a test that does not run on this CPU as it is begins with "ran on: ..."), then
one line "N passed, N failed" (", N skipped" where some were). Exit code 1 on failure.
"""
import collections
import glob
import os
import re
import sys
import xml.etree.ElementTree as ElementTree


class Tally:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []
        self.where = collections.Counter()  # cases that passed, by instruction set and machine


def native():
    """What plain tests run on: the best that this CPU has, lowered by REPLK_MAX_ISA."""
    with open("/proc/cpuinfo") as file:
        flags = re.search(r"^flags\s*:(.*)$", file.read(), re.M)
    words = flags.group(1).split() if flags else []
    best = [isa for isa, flag in (("portable", None), ("avx2", "avx2"), ("avx512", "avx512dq")) if flag in words or not flag]
    most = os.environ.get("REPLK_MAX_ISA", "")
    return f"{most if most in best else best[-1]}, native"


def last_line(text):
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def passed_elsewhere(program, directory):
    """Cases of a program that passed for the other instruction set (tests/emulate/other_isa)."""
    passed = set()
    for path in glob.glob(os.path.join(directory, program + "_other_isa*.xml")):
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            if case.get("result") == "completed" and case.find("failure") is None:
                passed.add((case.get("classname"), case.get("name")))
    return passed


def count_cases(path, program, tally):
    """Adds the cases of one GoogleTest report; returns how many of them failed."""
    failed = 0
    elsewhere = passed_elsewhere(program, os.path.dirname(path))
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{program}: {case.get('classname')}.{case.get('name')}"
        skipped = case.find("skipped")
        if case.get("result") == "suppressed":  # DISABLED_
            tally.skipped.append((name, "disabled in the source"))
        elif case.find("failure") is not None:
            failed += 1
            tally.failed.append(name)
        elif skipped is not None:
            if (case.get("classname"), case.get("name")) not in elsewhere:
                tally.skipped.append((name, last_line(skipped.get("message"))))
        else:
            tally.passed += 1
    return failed


def count_program(test, directory, tally):
    name, status = test.get("name"), test.get("status")
    output = test.findtext("system-out", "")
    cases = os.path.join(directory, name + ".xml")
    before = tally.passed
    known_failures = count_cases(cases, name, tally) if os.path.exists(cases) else None
    if status == "fail":
        print(f"---- {name} failed\n{output.rstrip()}\n----")
        if not known_failures:  # died before its end, or in its own clean-up, or is a script
            tally.failed.append(f"{name}: {test.find('failure').get('message', '')}")
    elif known_failures is None:
        if test.find("skipped") is not None:
            tally.skipped.append((name, last_line(output)))
        elif status == "run":
            tally.passed += 1
        else:
            tally.failed.append(f"{name}: {status}")
    where = re.search(r"^ran on: (.*)$", output, re.M)
    tally.where[where.group(1) if where else native()] += tally.passed - before


def main(directory):
    tally = Tally()
    try:
        tests = ElementTree.parse(os.path.join(directory, "ctest.xml")).getroot().iter("testcase")
    except (OSError, ElementTree.ParseError) as error:
        print(f"ctest left no report: {error}")
        tests = []
        tally.failed.append("ctest")
    for test in tests:
        count_program(test, directory, tally)
    for name, reason in tally.skipped:
        print(f"skipped {name}: {reason}")
    for name in tally.failed:
        print(f"FAILED {name}")
    print("; ".join(f"{where}: {count}" for where, count in sorted(tally.where.items()) if count))
    skipped = f", {len(tally.skipped)} skipped" if tally.skipped else ""
    print(f"{tally.passed} passed, {len(tally.failed)} failed{skipped}")
    return 1 if tally.failed or tally.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
