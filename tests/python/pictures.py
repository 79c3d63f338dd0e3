"""Pictures for tests, made without a library of images."""
import struct
import zlib

import numpy as np


def png(picture):
    """The PNG file of uint8 [rows, columns, 3], as bytes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows, columns, _ = picture.shape
    lines = b"".join(b"\0" + line.tobytes() for line in picture)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 1)) + chunk(b"IEND", b"")


def picture(seed, rows=20, columns=24):
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)


def write_pictures(folder, count, broken=(), rows=20, columns=24):
    """folder/000/00000.png and so on, a hundred a folder; those in `broken` are cut off."""
    for i in range(count):
        path = folder / f"{i // 100:03}" / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = png(picture(i, rows, columns))
        path.write_bytes(content[: len(content) // 2] if i in broken else content)
    return folder
