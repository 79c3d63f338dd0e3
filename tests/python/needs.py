"""What a test cannot run without: it is skipped, and says what to install."""
import importlib.util
import os
import sys


def needs(module, how):
    if importlib.util.find_spec(module) is None:
        print(f"skipped: {sys.executable} has no {module} ({how})")
        sys.exit(77)


def needs_onnxruntime_library():
    """The op's library of a build tree, or the package's own."""
    path = os.environ.get("REPLK_ONNXRUNTIME_LIBRARY")
    if path and not os.path.exists(path):
        print(f"skipped: there is no {path} (-DREPLK_ONNXRUNTIME=ON builds it, ./run test with REPLK_TEST_FRAMEWORKS=1 does)")
        sys.exit(77)
