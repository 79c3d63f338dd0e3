#!/usr/bin/env python3
"""Generated code of the same spec is the same bytes in two processes: at other addresses, with another heap, in another order."""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CLASSES = {"codelet-forms", "row-forward", "row-inverse", "row-weights", "toeplitz", "column-fft", "column-weights", "direct",
           "weight-direct", "gemm",
           "narrow", "tile_operand", "tile_product"}


def generate(program, order, folder):
    """({spec: code}, addresses) of a new process."""
    done = subprocess.run([program, order], env={**os.environ, "REPLK_DUMP_DIR": folder}, check=True, capture_output=True,
                          text=True)
    return {path.read_text(): path.with_suffix(".bin").read_bytes() for path in Path(folder).glob("*.txt")}, done.stdout


def main(program):
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        (codes, addresses), (again, others) = generate(program, "forwards", first), generate(program, "backwards", second)
    if any(a == b for a, b in zip(addresses.split(), others.split())):
        print(f"skipped: this system loads programs at the same addresses each time ({addresses.strip()})")
        return 77
    assert codes.keys() == again.keys(), codes.keys() ^ again.keys()
    different = [spec for spec, code in codes.items() if again[spec] != code]
    assert not different, f"{len(different)} of {len(codes)} differ, the first: {different[0]}"
    classes = {spec.split()[0] for spec in codes}
    assert classes == CLASSES, classes
    print(f"{len(codes)} kernels of {len(classes)} classes ({', '.join(sorted(classes))}), "
          f"{sum(map(len, codes.values()))} bytes, the same in both processes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
