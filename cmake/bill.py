#!/usr/bin/env python3
"""The software bill of materials of a package, as CycloneDX 1.5: what of others it carries or has compiled in, which version,
under which licence, and where a thing was downloaded, its hash. bill.py wheel|deb VERSION [system-onednn] prints it.

The wheel's says what Wheel.cmake puts there and what auditwheel adds (which has a bill of its own for that, with hashes, in
the wheel's sboms/); of a .deb's parts those that are no dependency."""
import json
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
COMPILED, CARRIED, ADDED = "compiled in", "carried", "added by auditwheel"
# name, Debian's package (the first that is installed), licence, how it is in the wheel, whether it is in a .deb
PARTS = [
    ("xbyak", ["libxbyak-dev"], "BSD-3-Clause", COMPILED, True),
    ("nlohmann-json", ["nlohmann-json3-dev"], "MIT", COMPILED, True),
    ("cli11", ["libcli11-dev"], "BSD-3-Clause", COMPILED, True),
    ("libstdc++", ["libstdc++6"], "GPL-3.0-or-later WITH GCC-exception-3.1", COMPILED, False),
    ("libgomp", ["libgomp1"], "GPL-3.0-or-later WITH GCC-exception-3.1", CARRIED, False),
    ("fmt", ["libfmt9", "libfmt10"], "MIT", ADDED, False),
    ("libjpeg-turbo", ["libjpeg62-turbo"], "IJG AND BSD-3-Clause AND Zlib", ADDED, False),
    ("libpng", ["libpng16-16", "libpng16-16t64"], "libpng-2.0", ADDED, False),
]


def debian_version(packages):
    for package in packages:
        done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout:
            return package, done.stdout
    return packages[0], None


def part(name, packages, licence, how):
    package, version = debian_version(packages)
    found = {"type": "library", "name": name, "licenses": [{"expression": licence}], "properties": [{"name": "replk:how", "value": how}]}
    if version:
        found |= {"version": version, "purl": f"pkg:deb/debian/{package}@{version.replace(':', '%3A').replace('+', '%2B')}"}
    return found


def pinned(file, pattern):
    return re.search(pattern, (HERE / file).read_text())[1]


def onednn():
    """As OneDnnWheels.cmake downloads it."""
    version = pinned("OneDnnWheels.cmake", r"set\(version (\S+)\)")
    return {"type": "library", "name": "onednn-cpu-gomp", "version": version, "purl": f"pkg:pypi/onednn-cpu-gomp@{version}",
            "licenses": [{"expression": "Apache-2.0"}], "properties": [{"name": "replk:how", "value": CARRIED}],
            "hashes": [{"alg": "SHA-256", "content": pinned("OneDnnWheels.cmake", r"set\(onednn_cpu_gomp_sha256 (\w+)\)")}]}


def onnxruntime():
    """Headers, as OnnxRuntimeHeaders.cmake downloads them."""
    version = pinned("OnnxRuntimeHeaders.cmake", r"libonnxruntime-dev_(\S+)_amd64.deb")
    return {"type": "library", "name": "onnxruntime-headers", "version": version, "licenses": [{"expression": "MIT"}],
            "purl": f"pkg:deb/debian/libonnxruntime-dev@{version.replace('+', '%2B')}",
            "properties": [{"name": "replk:how", "value": COMPILED}],
            "hashes": [{"alg": "SHA-256", "content": pinned("OnnxRuntimeHeaders.cmake", r"set\(sha256 (\w+)\)")}]}


def bill(kind, version, system_onednn=False):
    parts = [part(*rest, how) for *rest, how, in_deb in PARTS if kind == "wheel" or in_deb]
    if not system_onednn:
        parts.append(onednn())
    if kind == "wheel":
        parts.append(onnxruntime())
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
            "metadata": {"component": {"type": "library", "name": "replk", "version": version, "licenses": [{"expression": "MIT"}]}},
            "components": sorted(parts, key=lambda each: each["name"])}


if __name__ == "__main__":
    print(json.dumps(bill(sys.argv[1], sys.argv[2], "system-onednn" in sys.argv[3:]), indent=1))
