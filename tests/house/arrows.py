#!/usr/bin/env python3
"""Checks what each box of the house includes: arrows.py ROOT prints one line a violation and exits with 1 on any.

    cli, bench, tests -> measure -> lib/api, lib/model -> lib/depthwise, lib/dense, lib/elementwise, lib/image
        -> lib/simd, tuner, jit -> core

lib/api is the C API over all of lib. jit and tuner do not know each other, nor do the four boxes below lib/model. Within
jit/: kernels -> x64 -> program. lib/dense/onednn is the engine of lib/dense that stands on oneDNN.
"""
import pathlib
import re
import sys

CORE = {"core"}
JIT = {"jit/program", "jit/x64", "jit/kernels"}
LEAVES = CORE | JIT | {"tuner", "lib/simd"}
LAYERS = LEAVES | {"lib/depthwise", "lib/dense", "lib/dense/onednn", "lib/elementwise", "lib/image"}
LIBRARY = LAYERS | {"lib/model", "lib/include"}
PROGRAMS = LIBRARY | {"lib/api", "measure", "measure/onednn"}

# Box: the boxes it may include, itself aside. A file belongs to the longest prefix of its path.
MAY_INCLUDE = {
    "lib/include": set(),
    "core": set(),
    "jit/program": CORE,
    "jit/x64": CORE | {"jit/program"},
    "jit/kernels": CORE | JIT,
    "tuner": CORE,
    "lib/simd": CORE,
    "lib/depthwise": LEAVES,
    "lib/dense": LEAVES | {"lib/dense/onednn"},
    "lib/dense/onednn": LEAVES | {"lib/dense"},
    "lib/elementwise": LEAVES,
    "lib/image": LEAVES,
    "lib/model": LAYERS,
    "lib/api": LIBRARY,
    "measure/onednn": LIBRARY,
    "measure": LIBRARY | {"measure/onednn"},
    "cli": PROGRAMS,
    "bench": PROGRAMS,
    "tests": PROGRAMS | {"cli", "bench"},
    "examples": {"lib/include"},
    "integrations": {"lib/include"},
}

# What a line may say only in files below one of these places.
RESERVED = [
    (re.compile(r"\s*#\s*include\s*[<\"]xbyak"), "xbyak", ["jit/x64/", "jit/kernels/"]),
    (re.compile(r"\s*#\s*include\s*[<\"](dnnl|oneapi/)"), "oneDNN", ["lib/dense/onednn/", "measure/onednn/"]),
    # What brings oneDNN's types along: the engine's door and its version (primitives.hpp, version.hpp) do not.
    (re.compile(r"\s*#\s*include\s*\"dense/onednn/(loaded|engine)\.hpp"), "oneDNN", ["lib/dense/onednn/", "measure/onednn/"]),
    (re.compile(r"\s*#\s*(include\s*[<\"]omp\.h|pragma\s+omp)"), "OpenMP", ["core/openmp."]),
    (re.compile(r"\s*#\s*include\s*[<\"]immintrin\.h"), "intrinsics", ["lib/simd/", "tests/"]),
]
INCLUDE = re.compile(r'\s*#\s*include\s*(?:"([^"]+)"|<(replk/[^>]+)>)')
SOURCES = {".c", ".cpp", ".h", ".hpp"}


def box_of(path):
    return max((box for box in MAY_INCLUDE if path.startswith(box + "/")), key=len, default=None)


def sources(root):
    for top in sorted({box.split("/")[0] for box in MAY_INCLUDE}):
        for file in sorted((root / top).rglob("*")):
            if file.suffix in SOURCES and file.is_file():
                yield file.relative_to(root).as_posix()


def resolve(root, file, include):
    """The path, from the root, of what a quoted include names; None if it is not in the house."""
    for base in (pathlib.PurePosixPath(file).parent, "", "lib", "lib/include"):
        if (root / base / include).is_file():
            return (root / base / include).resolve().relative_to(root.resolve()).as_posix()
    return None


def line_violations(root, file, line):
    for pattern, what, places in RESERVED:
        if pattern.match(line) and not any(file.startswith(place) for place in places):
            yield f"{what} belongs in {' and '.join(places)} alone"
    include = INCLUDE.match(line)
    if include:
        named = include[1] or include[2]
        target = resolve(root, file, named)
        if target is None:
            if include[1] and not re.match("xbyak|dnnl|oneapi", named):
                yield f'"{named}" is not in the house; what is not ours is included with <>'
        elif box_of(target) != box_of(file) and box_of(target) not in MAY_INCLUDE[box_of(file)]:
            yield f"{box_of(file)} may not include {box_of(target) or target} ({named})"


def violations(root):
    root = pathlib.Path(root)
    for file in sources(root):
        for number, line in enumerate((root / file).read_text(errors="replace").splitlines(), 1):
            for what in line_violations(root, file, line):
                yield f"{file}:{number}: {what}"


if __name__ == "__main__":
    found = list(violations(sys.argv[1]))
    print("\n".join(found))
    sys.exit(1 if found else 0)
