#!/usr/bin/env python3
"""Runs a GoogleTest program on an emulated CPU with AVX-512: emulated.py PROGRAM REPORT.xml [ARGUMENT...]

The emulator is the program that REPLK_AVX512_RUNNER names (default: ../shared/tools/run-avx512 beside the checkout); it
is called as RUNNER --timeout SECONDS --env K=V PROGRAM ARGUMENT... and passes output and exit code on. No file comes
back from an emulated machine, so the report that tests/report.py counts is made from the output. Exits with 77 where
there is no emulator, or no need of one.
"""
import os
import pathlib
import re
import subprocess
import sys
from xml.sax.saxutils import quoteattr

ROOT = pathlib.Path(__file__).resolve().parents[1]
RUNNER = os.environ.get("REPLK_AVX512_RUNNER", str(ROOT.parent / "shared/tools/run-avx512"))
TIMEOUT = 3000
CASE = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] (\S+)\.(\S+) \(\d+ ms\)$", re.M)


def skip(reason):
    print(reason)
    sys.exit(77)


def report(output):
    cases = []
    for result, suite, name in CASE.findall(output):
        inner = {"OK": "", "FAILED": "<failure/>", "SKIPPED": '<skipped message="skipped on the emulated CPU"/>'}[result]
        cases.append(f"<testcase classname={quoteattr(suite)} name={quoteattr(name)} result='completed'>{inner}</testcase>")
    return "<testsuites>\n" + "\n".join(cases) + "\n</testsuites>\n"


def main(program, path, *arguments):
    if " avx512f " in pathlib.Path("/proc/cpuinfo").read_text().replace("\n", " "):
        skip("this CPU has AVX-512 itself, and the other tests ran on it")
    if not os.access(RUNNER, os.X_OK):
        skip(f"this CPU has no AVX-512, and there is no emulator at {RUNNER} (REPLK_AVX512_RUNNER)")
    done = subprocess.run([RUNNER, "--timeout", str(TIMEOUT), "--env", "REPLK_CACHE_DIR=/tmp", program, *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    print(done.stdout)
    if done.returncode == 125:
        skip(f"the emulator is not ready: {done.stdout.strip().splitlines()[-1]}")
    if done.returncode in (0, 1):  # anything else: it died, and the report would hide that
        pathlib.Path(path).write_text(report(done.stdout))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
