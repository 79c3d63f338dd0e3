"""The program ``replk`` of the wheel: what pip installs as a command becomes the compiled program."""
import os
import sys

from ._c import HERE


def main():
    program = HERE / "bin" / "replk"
    try:
        os.execv(program, [str(program), *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"replk: {program} cannot be run: {error.strerror}")
