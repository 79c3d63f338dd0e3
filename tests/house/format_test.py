#!/usr/bin/env python3
"""Every file is as `./run format` leaves it, with the release of clang-format that the files were formatted with."""
import pathlib
import re
import shutil
import subprocess
import sys

RELEASE = 14  # Debian 12's; others lay out some lines in other ways

if not shutil.which("clang-format"):
    print("skipped: there is no clang-format (./run format installs it)")
    sys.exit(77)
version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True, check=True).stdout.strip()
if not re.search(rf"version {RELEASE}\.", version):
    print(f"skipped: {version}; the files are laid out by release {RELEASE}")
    sys.exit(77)
sys.exit(subprocess.run([pathlib.Path(__file__).resolve().parents[2] / "run", "format", "--check"]).returncode)
