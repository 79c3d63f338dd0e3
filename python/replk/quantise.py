"""A network's weights in int8."""
from __future__ import annotations

import os
from typing import NamedTuple

from . import program


class QuantisedLayer(NamedTuple):
    """A pointwise or dense layer and what it computes in; ``reason``: why it is not int8."""

    name: str
    inputs: int
    outputs: int
    precision: str
    int8_error: float | None = None  # expected, over the deviation of the layer's result; None: never was to be int8
    reason: str | None = None


def quantize(
    name: str, weights: str | os.PathLike, out: str | os.PathLike, *, images: str | os.PathLike | None = None,
    count: int = 256, size: int | tuple[int, int] | None = None, threads: int | None = None,
) -> list[QuantisedLayer]:
    """Writes a network's weights in int8 as a file that runs by itself: ``replk.Model(name, out)``.

    >>> layers = replk.quantize("replknet-31b", "31b.safetensors", "31b-int8.safetensors")
    >>> [layer.name for layer in layers if layer.precision != "int8"]

    Parameters
    ----------
    name: as ``replk.Model`` takes it.
    weights: a ``.safetensors`` file of fp32 weights, in train, merged or fused form.
    out: the file to write; one that is there is replaced.
    images: images to calibrate with: a folder of JPEG and PNG files, at any depth, or an IDX file. None: the ranges come from
        the batch and layer norms alone.
    count: how many of the images, evenly spread.
    size: of the inputs made of them, a side or (height, width); None: the network's own.
    threads: None for ``replk.default_threads()``.

    Returns a list of ``QuantisedLayer``, in the order they run. It runs ``replk quantize`` (docs/precision.md) as a process of
    its own, which leaves the GIL free and gives its memory back. Raises ``replk.NotFound`` (name, file, folder),
    ``replk.BadFile`` (also: int8 already), ``replk.InvalidArgument``. Thread-safe.
    """
    arguments = ["quantize", "--model", name, "--weights", os.fspath(weights), "--out", os.fspath(out)]
    if images is not None:
        arguments += ["--images", os.fspath(images), "--count", str(count)]
    if size is not None:
        arguments += ["--size", "x".join(map(str, (size, size) if isinstance(size, int) else size))]
    if threads is not None:
        arguments += ["--threads", str(threads)]
    return [QuantisedLayer(**layer) for layer in program.run(arguments)["layers"]]
