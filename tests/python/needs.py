"""What a test cannot run without: it is skipped, and says what to install."""
import importlib.util
import sys


def needs(module, how):
    if importlib.util.find_spec(module) is None:
        print(f"skipped: {sys.executable} has no {module} ({how})")
        sys.exit(77)
