#!/usr/bin/env python3
"""Builds the library as a static one, installs it, and builds and runs the examples against it.

static_install_test.py SOURCE CMAKE GENERATOR CC CXX DNNL_DIR
"""
import pathlib
import subprocess
import sys
import tempfile

SOURCE, CMAKE, GENERATOR, CC, CXX, DNNL_DIR = sys.argv[1:7]
EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


def run(*command):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{command}\n{result.stdout}{result.stderr}")
    return result.stdout


with tempfile.TemporaryDirectory() as directory:
    work = pathlib.Path(directory)
    compilers = [f"-DCMAKE_C_COMPILER={CC}", f"-DCMAKE_CXX_COMPILER={CXX}"]
    run(CMAKE, "-S", SOURCE, "-B", work / "build", "-G", GENERATOR, *compilers, f"-Ddnnl_DIR={DNNL_DIR}",
        "-DBUILD_SHARED_LIBS=OFF", "-DREPLK_BUILD_TESTS=OFF", "-DREPLK_BUILD_BENCH=OFF", "-DREPLK_BUILD_CLI=OFF")
    run(CMAKE, "--build", work / "build")
    run(CMAKE, "--install", work / "build", "--prefix", work / "prefix")
    run(CMAKE, "-G", GENERATOR, "-S", EXAMPLES, "-B", work / "examples", f"-DCMAKE_PREFIX_PATH={work / 'prefix'}", *compilers)
    run(CMAKE, "--build", work / "examples")
    for program in ("depthwise_c", "depthwise_cpp", "network_c"):
        linked = run("ldd", work / "examples" / program)
        assert "libreplk_cpu" not in linked, linked
        print(program, run(work / "examples" / program).strip())
