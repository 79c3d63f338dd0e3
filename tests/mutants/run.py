#!/usr/bin/env python3
"""Breaks the code generator, and what runs, measures and offers its code, in one place at a time and runs the tests:
run.py [--build DIR] [--jobs N] [--only N,N...]

The mutants are a table (table.py). All are built into one copy of the tree, each behind a switch that the environment
throws (REPLK_MUTANT=N), so that all need one build. A mutant is caught where a test fails, crashes or does not end. Those
of integrations/ need torch (./run test with REPLK_TEST_FRAMEWORKS=1 makes build/frameworks) and are left out without it.
Exit code 0: the tests pass without a mutant, and at least 95 of 100 mutants are caught.
"""
import argparse
import concurrent.futures
import os
import pathlib
import resource
import subprocess
import sys
import time

from table import MUTANTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUIRED = 0.95
CPU_SECONDS = 90  # of one program: more, and it hangs. Not the clock's, so that a busy machine catches no mutant
CLOCK_SECONDS = 1800

# Quick ones first: most mutants die there. Some run once more for AVX2 where the CPU has AVX-512, as in ./run test: code for 16
# registers spills where code for 32 does not, and it has tails of its own.
AVX2 = {"REPLK_MAX_ISA": "avx2"}
PROGRAMS = [
    ("program_test", "*", {}),
    ("dft_test", "*", {}),
    ("assembler_test", "*", {}),
    ("threads_test", "*", {}),
    ("caches_test", "*", {}),
    ("cgroup_test", "*", {}),
    ("prefetch_test", "*", {}),
    ("lower_test", "*", {}),
    ("gemm_test", "*", {}),
    ("toeplitz_test", "*", {}),
    ("row_transform_test", "*", {}),
    ("column_fft_test", "*", {}),
    ("weight_direct_test", "*", {}),
    ("narrow_product_test", "*", {}),
    ("narrow_product_test", "*", AVX2),
    ("tile_operand_test", "*", {}),
    ("samples_guard_test", "*", {}),
    ("guard_test", "Guard.EveryKindOfTransform", {}),
    ("guard_test", "Guard.EveryKindOfTransform", AVX2),
    ("dense_test", "Linear.EveryBlocking*", {}),
    ("dense_test", "Linear.EveryBlocking*", AVX2),
    ("narrow_test", "Narrow.Some*:Narrow.Long*:Narrow.NaNs*", {}),
    ("narrow_test", "Narrow.Some*:Narrow.Long*:Narrow.NaNs*", AVX2),
    ("amx_test", "*FewShapes*:*EdgeShapes*", {}),
    ("dense_choice_test", "*", {}),
    ("bands_test", "*", {}),
    ("stripes_test", "*", {}),
    ("propagation_test", "Propagation.*", {}),
    ("overflow_test", "*", {}),
    ("bound_test", "Bound.HoldsBesideALargeBias", {}),
    ("input_gradient_test", "*RemaindersOfStrides:*Cropped*:*SameBits", {}),
    ("shared_weights_test", "-*Random*", {}),
    ("gradient_guard_test", "NansStay.*", {}),
    ("direct_test", "*", {}),
    ("guard_test", "Guard.SeededShapes", {}),
    ("guard_test", "Guard.SeededShapes", AVX2),
    ("row_spectral_test", "*", {}),
    ("measure_test", "*", {}),
]
if "avx512f" not in pathlib.Path("/proc/cpuinfo").read_text().split():
    PROGRAMS = [each for each in PROGRAMS if each[2] is not AVX2]

# What runs the mutants of integrations/torch/ instead of these: scripts, by the interpreter that has the framework.
TORCH = ("tests/python/torch_test.py", "tests/python/stale_test.py")
FRAMEWORKS = ROOT / "build" / "frameworks" / "bin" / "python"

SWITCH = """#pragma once
#include <cstdlib>
inline int mutant() {
  static const int number = std::getenv("REPLK_MUTANT") ? std::atoi(std::getenv("REPLK_MUTANT")) : 0;
  return number;
}
"""


def mutated(text, file, mutants):
    """The text with every mutant of the file in it, each behind its number."""
    for number, original, changed in mutants:
        if text.count(original) != 1:
            sys.exit(f"mutant {number} is out of step: {file} has {text.count(original)} of: {original}")
        if original.endswith(";"):
            new = f"if (mutant() == {number}) {{ {changed} }} else {{ {original} }}"
        else:
            new = f"(mutant() == {number} ? ({changed}) : ({original}))"
        text = text.replace(original, new)
    return f'#include "{os.path.relpath("core/mutant.hpp", os.path.dirname(file))}"\n' + text


def copy_tree(to):
    """Writes what differs only, so that a second build is short."""
    files = {}
    for name in subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            files[name] = (path.read_bytes(), path.stat().st_mode)
    by_file = {}
    for number, (file, original, changed, _) in enumerate(MUTANTS, 1):
        by_file.setdefault(file, []).append((number, original, changed))
    for file, mutants in by_file.items():
        content, mode = files[file]
        files[file] = (mutated(content.decode(), file, mutants).encode(), mode)
    files["core/mutant.hpp"] = (SWITCH.encode(), 0o644)
    for name, (content, mode) in files.items():
        path = to / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(mode & 0o777)


def build(tree, directory, jobs):
    onednn = ROOT / "build/onednn/lib/cmake/dnnl"  # where ./run test has unpacked it already
    configure = ["cmake", "-S", tree, "-B", directory, "-G", "Ninja", "-DREPLK_BUILD_BENCH=OFF", "-DREPLK_BUILD_CLI=OFF"]
    if onednn.exists():
        configure.append(f"-Ddnnl_DIR={onednn}")
    targets = sorted({program for program, _, _ in PROGRAMS})
    if FRAMEWORKS.exists():
        torch = subprocess.run([FRAMEWORKS, "-c", "import importlib.util as u; print(u.find_spec('torch').origin)"],
                               capture_output=True, check=True, text=True).stdout.strip()
        configure.append(f"-DREPLK_TORCH={pathlib.Path(torch).parent}")
        targets.append("replk_torch")
    for command in (configure, ["ninja", "-C", directory, f"-j{jobs}", *targets]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"{done.stdout}\n{command[0]} failed")


def limit():
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def of_torch(number):
    return number > 0 and MUTANTS[number - 1][0].startswith("integrations/torch/")


def programs(directory, number):
    """Commands that may catch it, each with what it needs of the environment and its name in reports."""
    if number == 0 and FRAMEWORKS.exists() or of_torch(number):
        for script in TORCH:
            yield [FRAMEWORKS, ROOT / script, "compiled", "--failfast"], {
                "REPLK_LIBRARY": directory / "libreplk_cpu.so", "PYTHONPATH": ROOT / "python", "PYTHONDONTWRITEBYTECODE": "1"}, script
    if not of_torch(number):
        for program, tests, isa in PROGRAMS:
            yield ([directory / "tests" / program, "--gtest_brief=1", "--gtest_fail_fast", f"--gtest_filter={tests}"], isa,
                   " ".join([program, *isa.values()]))


def run(directory, number):
    """What caught it, or None; what that printed; seconds."""
    begin = time.monotonic()
    environment = {**os.environ, "REPLK_MUTANT": str(number), "REPLK_CACHE_DIR": str(directory / "cache"),
                   "OMP_WAIT_POLICY": "passive"}
    for command, more, name in programs(directory, number):
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=limit,
                                  env={**environment, **more}, timeout=CLOCK_SECONDS, text=True, errors="replace")
            code, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired:
            code, output = None, ""
        if code != 0:
            how = "hangs" if code in (None, -24, -9) else "fails" if code == 1 else f"ends with signal {-code}"
            return f"{name} {how}", output, time.monotonic() - begin
    return None, "", time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "mutants")
    parser.add_argument("--built", action="store_true", help="build nothing: the programs are there from the last time")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", type=lambda text: [int(n) for n in text.split(",")])
    arguments = parser.parse_args()
    tree, directory = arguments.build.resolve() / "tree", arguments.build.resolve() / "build"
    if not arguments.built:
        copy_tree(tree)
        build(tree, directory, max(arguments.jobs, 2))

    caught_by, output, seconds = run(directory, 0)
    if caught_by:
        sys.exit(f"{output}\nwithout any mutant {caught_by}")
    print(f"without a mutant all pass ({seconds:.0f} s)", flush=True)
    numbers = arguments.only or range(1, len(MUTANTS) + 1)
    left_out = [n for n in numbers if of_torch(n) and not FRAMEWORKS.exists()]
    if left_out:
        print(f"left out, since {FRAMEWORKS} does not exist: {left_out}", flush=True)
        numbers = [n for n in numbers if n not in left_out]
    survivors = []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for number, (caught_by, _, seconds) in zip(numbers, pool.map(lambda n: run(directory, n), numbers)):
            file, _, _, why = MUTANTS[number - 1]
            print(f"{number:3} {caught_by or 'SURVIVES'} ({seconds:.0f} s): {file}: {why}", flush=True)
            if not caught_by:
                survivors.append(number)
    caught = len(numbers) - len(survivors)
    print(f"{caught} of {len(numbers)} mutants caught" + (f"; survivors: {survivors}" if survivors else ""))
    return 0 if caught >= REQUIRED * len(numbers) else 1


if __name__ == "__main__":
    sys.exit(main())
