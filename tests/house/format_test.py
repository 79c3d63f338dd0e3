#!/usr/bin/env python3
"""Every file is as `./run format` leaves it."""
import pathlib
import shutil
import subprocess
import sys

if not shutil.which("clang-format"):
    print("skipped: there is no clang-format")
    sys.exit(77)
sys.exit(subprocess.run([pathlib.Path(__file__).resolve().parents[2] / "run", "format", "--check"]).returncode)
