"""Large-kernel depthwise convolution on x86-64 CPUs, and the networks that are built on it.

    import numpy, replk
    layer = replk.Depthwise("n1c128h56w56k31+relu", weights, bias)   # float32 [128, 31, 31], [128]
    y = layer(x)                                                     # x: float32 [1, 56, 56, 128]

Only NumPy is needed. docs/python.md is the guide, docs/shapes.md says how a shape is written.
"""
from .convert import convert
from .depthwise import Depthwise
from .errors import BadFile, Cancelled, Error, InvalidArgument, NotFound, OutOfMemory, Unsupported
from .machine import CpuInfo, cpu_info, default_threads, set_tuning, tune, version
from .model import Guess, Model
from .quantise import QuantisedLayer, quantize

__version__ = version()
__all__ = [
    "BadFile", "Cancelled", "CpuInfo", "Depthwise", "Error", "Guess", "InvalidArgument", "Model", "NotFound",
    "OutOfMemory", "QuantisedLayer", "Unsupported", "convert", "cpu_info", "default_threads", "quantize", "set_tuning",
    "tune", "version",
]
