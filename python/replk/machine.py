"""The machine, and how the library tunes itself to it."""
from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass

from . import _c
from .depthwise import Depthwise
from .errors import InvalidArgument

_ISAS = "portable", "avx2", "avx512"
_FEATURES = "avx2", "avx512", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"
_MODES = "off", "cached", "now"


@dataclass(frozen=True)
class CpuInfo:
    """What the library sees of this machine. Cache sizes in bytes; ``isa`` is ``hardware`` lowered by REPLK_MAX_ISA."""

    vendor: str
    brand: str
    family: int
    model: int
    stepping: int
    cores: int
    hardware: str
    isa: str
    code_generation: bool
    l1d_bytes: int
    l2_bytes: int
    l3_bytes: int
    features: frozenset[str]  # in use, of avx2, avx512, avx_vnni, avx512_vnni, avx512_bf16, amx_tile, amx_bf16, amx_int8


def cpu_info() -> CpuInfo:
    """This machine, as the library sees it."""
    info = _c.sized(_c.CpuInfo)
    _c.lib.replk_get_cpu_info(ctypes.byref(info))
    return CpuInfo(
        info.vendor.decode(), info.brand.decode(), info.family, info.model, info.stepping, info.cores,
        _ISAS[info.hardware], _ISAS[info.isa], bool(info.code_generation), info.l1d_bytes, info.l2_bytes, info.l3_bytes,
        frozenset(name for bit, name in enumerate(_FEATURES) if info.features >> bit & 1)
    )


def default_threads() -> int:
    """The number of threads of a call that asks for none."""
    return _c.lib.replk_default_threads()


def version() -> str:
    """The library's version."""
    return _c.lib.replk_version().decode()


def set_tuning(mode: str = "cached", budget_seconds: float | None = None) -> None:
    """Sets how this process tunes the plans that it makes from now on.

    ``mode``: ``off`` (the cost model chooses), ``cached`` (what was measured before on this machine, else the cost
    model), ``now`` (what was not measured before is measured, for up to ``budget_seconds`` a problem, and remembered).
    """
    if mode not in _MODES:
        raise InvalidArgument(f"mode is {mode!r}; allowed: {', '.join(_MODES)}")
    tuning = _tuning()
    tuning.mode = _MODES.index(mode)
    if budget_seconds is not None:
        tuning.budget_seconds = budget_seconds
    _c.lib.replk_set_tuning(ctypes.byref(tuning))


def _tuning():
    tuning = _c.sized(_c.Tuning)
    _c.lib.replk_get_tuning(ctypes.byref(tuning))
    return tuning


@contextlib.contextmanager
def _measuring(budget_seconds):
    before = _tuning()
    set_tuning("now", budget_seconds)
    try:
        yield
    finally:
        _c.lib.replk_set_tuning(ctypes.byref(before))


def tune(*shapes: str, budget_seconds: float | None = None, threads: int | None = None) -> dict[str, str]:
    """Measures which tiling is fastest for each shape on this machine, and remembers it for later plans and processes.

    Returns {shape: tiling}. While it runs, other plans that this process makes are measured, too.
    """
    picks = {}
    with _measuring(budget_seconds):
        for shape in shapes:
            layer = Depthwise.zeros(shape, threads=threads)
            picks[layer.shape] = layer.tiling
    return picks
