"""A network: RepLKNet, SLaK, ConvNeXt, UniRepLKNet, MobileNetV2."""
from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import _arrays, _c
from .errors import InvalidArgument


_PRECISIONS = None, "fp32", "bf16", "bf16x3", "int8"  # by the C API's number


def _precision(name):
    if name not in _PRECISIONS:
        raise InvalidArgument(f"precision is {name!r}; allowed: {', '.join(map(repr, _PRECISIONS))}")
    return _PRECISIONS.index(name)


if TYPE_CHECKING:
    import torch


class Guess(NamedTuple):
    """One class that a network names."""

    index: int
    label: str
    probability: float


class Model:
    """A loaded network, its weights folded and packed.

    >>> network = replk.Model("replknet-31b", "31b.safetensors")
    >>> network.classify(["photo.jpg"])[0][0]
    Guess(index=282, label='tiger cat', probability=0.83)

    Parameters
    ----------
    name: such as ``replknet-31b``, ``slak-t``, ``convnext-b``, ``unireplknet-s``, ``replknet-31b:k=3,3,3,3``.
    weights: a ``.safetensors`` file in train, merged, fused or int8 form (docs/models.md); None: random weights from
        ``seed``, for measurements.
    threads: None for ``replk.default_threads()``.
    exact: depthwise layers in class exact (the same bits on every machine) instead of fast.
    precision: what pointwise and dense layers multiply in: None (the file's own), ``fp32``, ``bf16``, ``bf16x3``, ``int8``;
        never narrower than asked.
    norm_features: whether ``features`` pass through their stage's norm, which the file must hold.

    Raises ``replk.NotFound`` (name, file), ``replk.BadFile``, ``replk.InvalidArgument``. Any number of threads may run one
    model at once; a run releases the GIL. Plans are made at the first run of a size and kept for the four sizes
    used last.
    """

    def __init__(
        self, name: str, weights: str | os.PathLike | None = None, precision: str | None = None, threads: int | None = None,
        *, exact: bool = False, norm_features: bool = False, seed: int = 1,
    ) -> None:
        self.name = name
        options = _c.sized(
            _c.ModelOptions,
            threads=threads or 0,
            numerics=int(exact),
            norm_intermediate_features=int(norm_features),
            seed=seed,
            precision=_precision(precision),
        )
        self._handle = _c.Handle(_c.lib.replk_model_destroy)
        _c.lib.replk_model_load(
            name.encode(), os.fsencode(weights) if weights is not None else None, ctypes.byref(options),
            ctypes.byref(self._handle.pointer)
        )
        info = _c.sized(_c.ModelInfo)
        _c.lib.replk_model_get_info(self._handle.pointer, ctypes.byref(info))
        self.classes = info.classes  # 0: a backbone without a head
        self.threads = info.threads
        self.weight_bytes = info.weight_bytes
        self.precision = _PRECISIONS[info.precision]
        self.mean, self.std = tuple(info.mean), tuple(info.std)  # an input is (RGB in 0..1 - mean) / std
        self.size = info.size  # of the default input, a square

    @classmethod
    def from_torch(
        cls, module: torch.nn.Module, precision: str | None = None, threads: int | None = None, *, exact: bool = False,
        norm_features: bool | None = None, verify: bool = True,
    ) -> Model:
        """The network that a ``torch.nn.Module`` is, with its weights as they are now, read from memory.

        ``module``: RepLKNet, SLaK, ConvNeXt, ConvNeXt V2 or UniRepLKNet of the authors, ConvNeXt or MobileNetV2 of timm,
        torchvision or transformers, their backbones included, recognised by the names and shapes of its ``state_dict``
        (docs/models.md). It is read as in evaluation mode, whatever mode it is in, and is not changed. ``norm_features``: None
        for what the module itself gives. ``verify``: run a small random picture through both, and refuse a module that
        computes something else (another activation, stride or padding). The rest is as in the constructor.

        Raises ``replk.InvalidArgument`` with what is missing, has no place, or differs.
        """
        from . import _from_torch
        return _from_torch.load(cls, module, precision, norm_features, verify, {"threads": threads, "exact": exact})

    def label(self, index: int) -> str:
        """A class's name from the file, or ``class 7`` where it has none."""
        return _c.lib.replk_model_label(self._handle.pointer, index).decode() or f"class {index}"

    def read(
        self, image: str | os.PathLike | np.ndarray, size: int | tuple[int, int] | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """One input, float32 [height, width, 3], as the network's own evaluation prepares it.

        ``image``: a path (JPEG or PNG), or an RGB picture, uint8 [rows, columns, 3]. ``size``: a side, or (height, width).
        ``out``: where it is written, instead of a new array.
        """
        pixels = self._input(size, out)
        height, width = pixels.shape[:2]
        if isinstance(image, (str, bytes, os.PathLike)):
            _c.lib.replk_model_read_image(self._handle.pointer, os.fsencode(image), height, width, pixels.ctypes.data)
            return pixels
        picture = np.asarray(image)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise InvalidArgument(
                f"image has type {picture.dtype} and shape {picture.shape}; allowed: a path, or uint8 (rows, columns, 3)"
            )
        picture = np.ascontiguousarray(picture)
        _c.lib.replk_model_read_rgb(
            self._handle.pointer, picture.ctypes.data, picture.shape[0], picture.shape[1], height, width,
            pixels.ctypes.data
        )
        return pixels

    def decode(
        self, content: bytes, name: str, size: int | tuple[int, int] | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """The same from a file's content, bytes; ``name`` stands for the file in messages."""
        pixels = self._input(size, out)
        _c.lib.replk_model_read_encoded(
            self._handle.pointer, content, len(content), os.fsencode(name), *pixels.shape[:2], pixels.ctypes.data
        )
        return pixels

    def classify(
        self, images: Iterable[str | os.PathLike | np.ndarray], top: int = 5, size: int | tuple[int, int] | None = None
    ) -> list[list[Guess]]:
        """The most probable classes of each picture, best first: a list of lists of ``Guess``.

        ``images``: a list of paths or uint8 pictures (see ``read``); each is run by itself.
        """
        if isinstance(images, (str, bytes, os.PathLike)) or getattr(images, "ndim", 4) == 3:
            raise InvalidArgument("images is one picture; allowed: a list of them")
        return [self._guesses(self.logits(self.read(image, size)[None])[0], top) for image in images]

    def logits(self, pixels: ArrayLike) -> np.ndarray:
        """float32 [batch, classes] of normalised RGB, float32 [batch, height, width, 3]."""
        return self.outputs(pixels, logits=True)[0]

    def features(self, pixels: ArrayLike) -> list[np.ndarray]:
        """The four stages' maps for such pixels: four float32 [batch, channels, height, width]."""
        return self.outputs(pixels, stages=range(4))[1:]

    def outputs(self, pixels: ArrayLike, logits: bool = False, stages: Iterable[int] = ()) -> list[np.ndarray | None]:
        """One run: [logits or None, the map of each stage (0 to 3) that is named, in this order]."""
        pixels = self._pixels(pixels)
        if logits and self.classes == 0:
            raise InvalidArgument(f"model {self.name}: its weights have no head, so there are no logits")
        scores = np.empty((pixels.shape[0], self.classes), np.float32) if logits else None
        maps = [np.empty((pixels.shape[0], *self.feature_shape(stage, pixels.shape[1:3])), np.float32) for stage in stages]
        pointers = (ctypes.c_void_p * 4)()
        for stage, features in zip(stages, maps):
            pointers[stage] = features.ctypes.data
        self._run(pixels, scores.ctypes.data if logits else None, pointers if maps else None)
        return [scores, *maps]

    def feature_shape(self, stage: int, size: int | tuple[int, int] | None = None) -> tuple[int, int, int]:
        """(channels, height, width) of the map of a stage, 0 to 3, for an input of this size."""
        sides = [ctypes.c_int32() for _ in range(3)]
        _c.lib.replk_model_feature_shape(
            self._handle.pointer, stage, *self._size(size), *(ctypes.byref(side) for side in sides)
        )
        return tuple(side.value for side in sides)

    def _size(self, size):
        if size is None:
            size = self.size
        return (size, size) if isinstance(size, int) else tuple(size)

    def _input(self, size, out):
        shape = (*self._size(size), 3)
        if out is None:
            return np.empty(shape, np.float32)
        return _arrays.shaped(_arrays.written(_arrays.stored(out, "fp32", "out"), "out"), shape, "out")

    def _guesses(self, logits, top):
        weights = np.exp(logits.astype(np.float64) - logits.max())
        best = np.argsort(-logits, kind="stable")[:top]
        return [Guess(int(i), self.label(int(i)), float(weights[i] / weights.sum())) for i in best]

    @staticmethod
    def _pixels(pixels):
        pixels = _arrays.stored(pixels, "fp32", "pixels")
        if pixels.ndim != 4 or pixels.shape[3] != 3:
            raise InvalidArgument(f"pixels has shape {pixels.shape}; allowed: (batch, height, width, 3)")
        return np.ascontiguousarray(pixels)

    def _run(self, pixels, logits, features):
        _c.lib.replk_model_run(self._handle.pointer, pixels.ctypes.data, *pixels.shape[:3], logits, features, None)

    def __repr__(self):
        return f"<replk.Model {self.name}: {self.classes} classes, {self.weight_bytes >> 20} MiB of weights>"
