"""Files of .safetensors: 8 bytes with the header's length, the header in JSON, the tensors' bytes.

A file that is read is hostile until checked; lengths are compared with the file's before anything is allocated.
"""
import json
import math
import os

import numpy as np

from .errors import Refused
from .tensors import TYPES, Tensor

MOST_HEADER = 100 << 20  # the format's own limit


def is_safetensors(path):
    """Whether a file begins like one, whatever its name: a length, and a JSON object."""
    try:
        with open(path, "rb") as file:
            start = file.read(9)
            return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= MOST_HEADER
    except OSError:
        return False


def read(path):
    """The tensors of a file by name, and its metadata."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > min(MOST_HEADER, size - 8):
            raise Refused(f"{path}: a header of {length} bytes in a file of {size}")
        header = parse_header(path, file.read(length))
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise Refused(f"{path}: __metadata__ is not an object of strings")
        return {name: read_tensor(path, file, 8 + length, size, name, entry) for name, entry in header.items()}, metadata


def parse_header(path, text):
    def once(pairs):
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise ValueError("a name twice")
        return dict(pairs)

    try:
        header = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path}: the header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise Refused(f"{path}: the header is not an object")
    return header


def read_tensor(path, file, begin, size, name, entry):
    entry = entry if isinstance(entry, dict) else {}
    kind, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    counts = isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2 and len(shape) <= 8
    if not counts or not all(type(number) is int and 0 <= number <= size for number in (*shape, *offsets)):
        raise Refused(f"{path}: '{name}': a shape and two offsets inside the file are wanted")
    if kind not in TYPES:
        raise Refused(f"{path}: '{name}': type {kind} cannot be read; allowed: {', '.join(TYPES)}")
    dtype = np.dtype(TYPES[kind]).newbyteorder("<")
    if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize or begin + offsets[1] > size:
        raise Refused(f"{path}: '{name}': bytes {offsets[0]} to {offsets[1]} are not {kind} of shape {shape} inside the file")
    file.seek(begin + offsets[0])
    array = np.fromfile(file, dtype, math.prod(shape))
    return Tensor(kind, array.astype(TYPES[kind], copy=False).reshape(shape))


def write(file, tensors, metadata):
    """Writes to an open binary file."""
    header, arrays, offset = {"__metadata__": metadata}, [], 0
    for name, tensor in sorted(tensors.items()):
        array = np.ascontiguousarray(tensor.array, np.dtype(TYPES[tensor.kind]).newbyteorder("<"))
        header[name] = {"dtype": tensor.kind, "shape": list(tensor.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
        arrays.append(array)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays:
        file.write(memoryview(array.reshape(-1).view(np.uint8)))


def save(path, tensors, metadata):
    """Writes a file, or leaves what was there."""
    temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            write(file, tensors, metadata)
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise Refused(f"{path}: cannot be written: {error.strerror}") from error
