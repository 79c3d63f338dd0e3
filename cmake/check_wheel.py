#!/usr/bin/env python3
"""What a repaired wheel must hold to: check_wheel.py FILE.whl prints one line a fault, and exits with 1 on any.

One OpenMP runtime, under its own name, beside the library that looks for it there: a renamed copy, which auditwheel makes
where it does not find that one, is a second pool of threads beside PyTorch's. And 20 MB.
"""
import os
import re
import subprocess
import sys
import tempfile
import zipfile

LARGEST = 20_000_000


def faults_of(path):
    size = os.path.getsize(path)
    if size > LARGEST:
        yield f"{size} bytes; allowed: {LARGEST}"
    with zipfile.ZipFile(path) as wheel, tempfile.TemporaryDirectory() as folder:
        for name in wheel.namelist():
            if re.search(r"(^|/)libgomp[^/]*\.so", name) and name != "replk/lib/libgomp.so.1":
                yield f"{name}: a second OpenMP runtime"
        for name in ("libreplk_cpu.so.0", "libdnnl.so.3"):
            dynamic = subprocess.run(["readelf", "-d", wheel.extract(f"replk/lib/{name}", folder)], capture_output=True, text=True,
                                     check=True).stdout
            paths = re.findall(r"r(?:un)?path: \[(.*)\]", dynamic)
            if "$ORIGIN" not in ":".join(paths).split(":"):
                yield f"{name}: looks for libraries in {paths}; allowed: with $ORIGIN"
            if "[libgomp.so.1]" not in dynamic:
                yield f"{name}: does not need libgomp.so.1"


def main():
    faults = list(faults_of(sys.argv[1]))
    for fault in faults:
        print(f"{os.path.basename(sys.argv[1])}: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
