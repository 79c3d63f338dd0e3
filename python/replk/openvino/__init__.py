"""Models that replk.onnx has rewritten, in OpenVINO.

    import openvino, replk.onnx, replk.openvino
    replk.onnx.rewrite("model.onnx", "fast.onnx")
    core = openvino.Core()
    print(replk.openvino.add_extension(core))                 # "compiled" or "python: ..."
    compiled = core.compile_model(core.read_model("fast.onnx"), "CPU")

docs/openvino.md is the guide.
"""
import os

from ..errors import NotFound
from ._build import build, extension_path


def add_extension(core, compiled=None):
    """Teaches ``core``, an ``openvino.Core``, to read and run the library's op. Returns which way: "compiled", or "python: "
    and why.

    compiled: True for the C++ extension, which is compiled once for each release of OpenVINO and needs a C++ compiler, whose first
    error is in the NotFound that is raised if it fails; False for the op in Python, which costs some microseconds a node and takes
    the interpreter's lock; None for the first if it can be compiled, else the second.
    """
    if compiled is not False:
        try:
            path = build()
        except NotFound as error:
            if compiled:
                raise
            why = str(error)
        else:
            core.add_extension(os.fspath(path))
            return "compiled"
    else:
        why = "asked for"
    from . import _op

    for extension in _op.extensions():
        core.add_extension(extension)
    return f"python: {why}"


__all__ = ["add_extension", "build", "extension_path"]
