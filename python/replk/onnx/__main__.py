"""python -m replk.onnx IN OUT: Swaps a model's large depthwise convolutions for replk's, and says what became of each."""
import argparse
import json
import sys

from ..errors import Error
from . import rewrite


def main():
    parser = argparse.ArgumentParser(prog="python -m replk.onnx", description=__doc__.split(": ", 1)[1])
    parser.add_argument("src", metavar="IN", help="an ONNX model")
    parser.add_argument("dst", metavar="OUT", help="the file to write")
    parser.add_argument("--min-kernel", type=int, default=5, help="longest kernel side from which a layer is swapped (5)")
    parser.add_argument("--no-check", action="store_true", help="do not compare the two models on random data")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    arguments = parser.parse_args()
    try:
        report = rewrite(arguments.src, arguments.dst, arguments.min_kernel, not arguments.no_check)
    except (Error, ImportError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(report.json(), indent=1) if arguments.json else report)


if __name__ == "__main__":
    main()
