"""ONNX models with large depthwise convolutions, faster in ONNX Runtime.

    import onnxruntime, replk.onnx
    print(replk.onnx.rewrite("model.onnx", "fast.onnx"))
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(replk.onnx.library_path())
    session = onnxruntime.InferenceSession("fast.onnx", options, providers=["CPUExecutionProvider"])

Needs the package onnx; with onnxruntime the result is checked. docs/onnx.md is the guide.
"""
import os
from pathlib import Path

from .._c import HERE
from ..errors import InvalidArgument, NotFound


def library_path():
    """The custom-op library, for ``SessionOptions.register_custom_ops_library``: the wheel's own, or what
    REPLK_ONNXRUNTIME_LIBRARY names (a build tree's). NotFound where this build has none."""
    named = os.environ.get("REPLK_ONNXRUNTIME_LIBRARY")
    path = Path(named) if named else HERE / "onnx" / "replk_onnxruntime.so"
    if not path.is_file():
        raise NotFound(f"{path}: this build has no library for ONNX Runtime (-DREPLK_ONNXRUNTIME=ON)")
    return str(path)


class Report:
    """What became of a model's convolutions. ``str()`` of it is a table, ``json()`` plain data.

    ``entries``: one a convolution, in the graph's order. ``check``: {"outputs": {name: largest difference over largest value},
    "limit"}, or None; then ``unchecked`` says why."""

    def __init__(self, entries, check, unchecked):
        self.entries, self.check, self.unchecked = entries, check, unchecked

    @property
    def swapped(self):
        return [entry for entry in self.entries if entry.action == "swapped"]

    def json(self):
        return {
            "swapped": len(self.swapped),
            "nodes": [vars(entry) for entry in self.entries],
            "check": self.check,
            "unchecked": self.unchecked,
        }

    def __str__(self):
        dense = [e for e in self.entries if e.reason.startswith("dense")]
        lines = [f"{len(self.swapped)} of {len(self.entries)} convolutions swapped; {len(dense)} are dense"]
        for entry in self.entries:
            if entry.action == "swapped":
                absorbed = f", with {', '.join(entry.absorbed)}" if entry.absorbed else ""
                lines.append(f"  swapped  {entry.node}: c{entry.channels}{entry.layer} {entry.layout}{absorbed}")
            elif entry not in dense:
                lines.append(f"  left     {entry.node}: {entry.reason}")
        if self.check:
            largest = max(self.check["outputs"].values(), default=0.0)
            lines.append(f"checked on random data: differs by {largest:.2g} of the largest value at most")
        else:
            lines.append(f"not checked: {self.unchecked}")
        return "\n".join(lines)


def rewrite(src, dst, min_kernel=5, check=True, inputs=None):
    """Writes ``src``, an ONNX model, to ``dst`` with its depthwise convolutions swapped for the library's op. Returns a Report.

    min_kernel: the longest side of the smallest kernel to swap, 1 to 127. A swapped layer also takes in batch norms and factors
    after it, branches that are summed, an activation, a residual, and transposes around it (docs/onnx.md). check: compare the
    result with ``src`` on random data, or on ``inputs`` ({name: array}), in ONNX Runtime if that is installed. Raises Error, and
    writes no file, if they differ by more than 1e-4 of the largest value (3e-2 in bfloat16 or float16) and by more than four times
    what ``src``'s own results change with the runtime's optimisations; NotFound or BadFile if ``src`` is missing or wrong.
    Weights outside ``src`` are copied to ``dst``.data. ``dst`` may be ``src``.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ImportError("replk.onnx: the package onnx is needed (pip install onnx)") from error
    if not isinstance(min_kernel, int) or not 1 <= min_kernel <= 127:
        raise InvalidArgument(f"min_kernel is {min_kernel!r}; allowed: 1 to 127")
    from ._run import run

    return Report(*run(Path(src), Path(dst), min_kernel, check, inputs))


__all__ = ["Report", "library_path", "rewrite"]
