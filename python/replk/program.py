"""The program ``replk`` of the wheel: what pip installs as a command becomes the compiled program."""
import json
import os
import subprocess
import sys

from . import _c
from .errors import BY_STATUS, Error, NotFound


def path():
    """The program: the wheel's own, or the one beside the library that REPLK_LIBRARY names (a build tree's)."""
    return _c.library_path().with_name("replk") if "REPLK_LIBRARY" in os.environ else _c.HERE / "bin" / "replk"


def run(arguments):
    """What a command prints with --json, as a dict. Its error is raised as a call of the library would raise it."""
    try:
        done = subprocess.run([path(), *arguments, "--json"], stdin=subprocess.DEVNULL, capture_output=True)
    except OSError as error:
        raise NotFound(f"the program {path()} cannot be run: {error.strerror}") from error
    message = done.stderr.decode(errors="replace").strip()
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise Error(f"the program {path()} ended with code {done.returncode}: {message or 'no message'}") from None
    if "error" in answer:
        raise BY_STATUS.get(answer["status"], Error)(answer["error"])
    return answer


def main():
    program = path()
    try:
        os.execv(program, [str(program), *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"replk: {program} cannot be run: {error.strerror}")
