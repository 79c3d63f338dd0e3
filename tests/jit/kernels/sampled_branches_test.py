#!/usr/bin/env python3
"""The samples of the kernels (jit/kernels/samples.hpp) run every branch of the generators that real code runs, so that a
byte that changes anywhere changes the fingerprint. And the check sees what is left out: without the samples of a kernel, or
without the large Toeplitz products alone, branches are missing.

sampled_branches_test.py PROGRAM COMPILER
"""
import re
import shutil
import subprocess
import sys

PROGRAM = sys.argv[1]
# What plans ask beside code.
BESIDE = re.compile(r"cut_into_blocks|direct_code_fmas|direct_fits|::height\(|scratch_bytes|_code\(|DirectKernel|jit::Code::")
OURS = re.compile(r" at .*/(jit/(?:kernels|x64)/\S+:\d+)")


def missing(*without):
    """Lines of the generators that real code runs and the samples do not, and what the program says."""
    output = subprocess.run([PROGRAM, *without], check=True, capture_output=True, text=True).stdout.splitlines()
    said, addresses = output[0], output[1:]
    found = subprocess.run(["addr2line", "-e", PROGRAM, "-f", "-C", "-p"], input="\n".join(addresses), check=True,
                           capture_output=True, text=True).stdout.splitlines()
    return sorted({match[1] for match in map(OURS.search, filter(lambda line: not BESIDE.search(line), found)) if match}), said


def main():
    if not shutil.which("addr2line"):
        print("skipped: there is no addr2line")
        return 77
    if sys.argv[2] != "GNU":
        print(f"skipped: {sys.argv[2]} reports other basic blocks than the lines of the generators; a build with g++ runs it")
        return 77
    lines, said = missing()
    print(said)
    assert not lines, "no sample runs these lines, so the fingerprint does not see them:\n" + "\n".join(lines)
    # The Toeplitz products by calls; whole kernels.
    for without in ("outputs=29", "direct", "row-forward", "gemm", "narrow", "tile_product"):
        lines, _ = missing(without)
        assert lines, f"the check does not see that samples of '{without}' are missing"
    return 0


if __name__ == "__main__":
    sys.exit(main())
