"""The networks of the benchmark as PyTorch modules with seeded weights, and the image helpers that the comparison needs."""
import struct
import zlib

import numpy as np
import torch

import swin


def build(model, size):
    """(module in evaluation form, state dict for our loader or None): weights from torch's current seed."""
    if model.startswith("swin-"):
        if size[0] != size[1]:
            raise ValueError(f"{model}: size is {size[0]}x{size[1]}, want a square")
        return swin.Swin(model.split("-")[1], size[0]).eval(), None
    raise ValueError(f"no PyTorch definition of '{model}'")


def write_png(path, pixels):
    """H x W x 3 uint8 to an uncompressed-filter RGB PNG."""
    height, width, _ = pixels.shape

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1).tobytes()
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
                   + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))
