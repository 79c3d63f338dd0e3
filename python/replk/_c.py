"""The C API (replk/replk.h) by ctypes. A call releases the GIL; what it refuses is raised (errors.py).

The structures stand here a second time; tests/python/layout_test.py compares sizes and offsets with the header's.
"""
import ctypes
import os
from pathlib import Path

from .errors import BY_STATUS, Error

HERE = Path(__file__).resolve().parent


def library_path() -> Path:
    """The shared library: the wheel's own, or what REPLK_LIBRARY names (a build tree's)."""
    named = os.environ.get("REPLK_LIBRARY")
    return Path(named) if named else HERE / "lib" / "libreplk_cpu.so.0"


try:
    # Beside it lies an unrenamed libgomp, so that a process has one OpenMP pool whatever loads it first (docs/python.md).
    lib = ctypes.CDLL(os.fspath(library_path()))
except OSError as error:
    raise ImportError(f"replk: {library_path()} cannot be loaded: {error}") from error


class CpuInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("vendor", ctypes.c_char * 16),
        ("brand", ctypes.c_char * 64),
        ("family", ctypes.c_int32),
        ("model", ctypes.c_int32),
        ("stepping", ctypes.c_int32),
        ("cores", ctypes.c_int32),
        ("hardware", ctypes.c_int),
        ("isa", ctypes.c_int),
        ("code_generation", ctypes.c_int32),
        ("l1d_bytes", ctypes.c_uint64),
        ("l2_bytes", ctypes.c_uint64),
        ("l3_bytes", ctypes.c_uint64),
        ("features", ctypes.c_uint32),
    ]


class Tuning(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("mode", ctypes.c_int), ("budget_seconds", ctypes.c_double)]


class DepthwiseOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("threads", ctypes.c_int32),
        ("algorithm", ctypes.c_char_p),
        ("tiling", ctypes.c_char_p),
        ("scale", ctypes.c_void_p),
    ]


class GradientOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("threads", ctypes.c_int32),
        ("wanted", ctypes.c_int32),
        ("layer", ctypes.c_void_p),
    ]


GRADIENT_INPUT, GRADIENT_WEIGHTS = 1, 2

Progress = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_double, ctypes.c_void_p)


class ModelOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("threads", ctypes.c_int32),
        ("numerics", ctypes.c_int),
        ("norm_intermediate_features", ctypes.c_int32),
        ("seed", ctypes.c_uint64),
        ("progress", Progress),
        ("progress_user", ctypes.c_void_p),
        ("precision", ctypes.c_int),
    ]


class ModelInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("classes", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("weight_bytes", ctypes.c_uint64),
        ("mean", ctypes.c_float * 3),
        ("std", ctypes.c_float * 3),
        ("size", ctypes.c_int32),
        ("crop_fraction", ctypes.c_double),
        ("warp_from", ctypes.c_int32),
        ("precision", ctypes.c_int),
    ]


class RunOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("batch", ctypes.c_int64),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_size_t),
        ("pool", ctypes.c_void_p),
        ("user", ctypes.c_void_p),
    ]


def sized(structure, **fields):
    """A structure with its struct_size set."""
    return structure(struct_size=ctypes.sizeof(structure), **fields)


def _check(status, function, arguments):
    if status == 0:
        return arguments
    raise BY_STATUS.get(status, Error)(lib.replk_last_error().decode(errors="replace"))


_P = ctypes.c_void_p
_STATUS = {
    "replk_get_cpu_info": [_P],
    "replk_set_tuning": [_P],
    "replk_get_tuning": [_P],
    "replk_depthwise_create_from_shape": [ctypes.c_char_p, _P, _P, _P, _P],
    "replk_depthwise_output_size": [_P, _P, _P],
    "replk_depthwise_set_weights": [_P, _P, _P],
    "replk_depthwise_run_with": [_P, _P, _P, _P, _P],
    "replk_depthwise_gradient_create_from_shape": [ctypes.c_char_p, _P, _P, _P],
    "replk_depthwise_gradient_set_weights": [_P, _P],
    "replk_depthwise_gradient_input": [_P, _P, _P, _P],
    "replk_depthwise_gradient_weights": [_P, _P, _P, _P, _P, ctypes.c_int32, _P],
    "replk_model_load": [ctypes.c_char_p, ctypes.c_char_p, _P, _P],
    "replk_model_get_info": [_P, _P],
    "replk_model_feature_shape": [_P, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32, _P, _P, _P],
    "replk_model_read_image": [_P, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32, _P],
    "replk_model_read_encoded": [_P, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32, _P],
    "replk_model_read_rgb": [_P, _P] + [ctypes.c_int32] * 4 + [_P],
    "replk_model_run": [_P, _P, ctypes.c_int64, ctypes.c_int32, ctypes.c_int32, _P, _P, _P],
}
_TEXT = {
    "replk_version": [],
    "replk_last_error": [],
    "replk_depthwise_shape": [_P],
    "replk_depthwise_tiling": [_P],
    "replk_depthwise_source": [_P],
    "replk_model_label": [_P, ctypes.c_int32],
}
for _name, _types in _STATUS.items():
    getattr(lib, _name).argtypes = _types
    getattr(lib, _name).restype = ctypes.c_int
    getattr(lib, _name).errcheck = _check
for _name, _types in _TEXT.items():
    getattr(lib, _name).argtypes = _types
    getattr(lib, _name).restype = ctypes.c_char_p
for _name in ("replk_depthwise_destroy", "replk_depthwise_gradient_destroy", "replk_model_destroy"):
    getattr(lib, _name).argtypes = [_P]
    getattr(lib, _name).restype = None
lib.replk_default_threads.argtypes = []
lib.replk_default_threads.restype = ctypes.c_int


class Handle:
    """Owns one object of the C API."""

    __slots__ = ("pointer", "_destroy")

    def __init__(self, destroy):
        self.pointer = ctypes.c_void_p()
        self._destroy = destroy

    def __del__(self):
        if self.pointer:
            self._destroy(self.pointer)
