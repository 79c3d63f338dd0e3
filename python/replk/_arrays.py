"""Arrays as the library takes them: a type, a layout and an address."""
import numpy as np

from .errors import InvalidArgument

# Storage types by the word of a shape's text. NumPy has no bfloat16: ml_dtypes' is taken, else the bits as uint16.
FLOAT32, FLOAT16 = np.dtype(np.float32), np.dtype(np.float16)


def bfloat16_bits(dtype):
    return dtype == np.uint16 or dtype.name == "bfloat16"


def stored(array, word, name):
    """`array` as an ndarray of the storage type that the shape names; another type is an error, not a cast."""
    array = np.asarray(array)
    if word == "bf16":
        if not bfloat16_bits(array.dtype):
            raise InvalidArgument(f"{name} is of type {array.dtype}; allowed: bfloat16 (ml_dtypes) or its bits as uint16")
    elif array.dtype != (FLOAT16 if word == "fp16" else FLOAT32):
        raise InvalidArgument(f"{name} is of type {array.dtype}; allowed: {'float16' if word == 'fp16' else 'float32'}")
    return array


def shaped(array, shape, name):
    if array.shape != tuple(shape):
        raise InvalidArgument(f"{name} has shape {array.shape}; allowed: {tuple(shape)}")
    return array


def written(array, name):
    """An array that results can be written to where it lies."""
    if not isinstance(array, np.ndarray) or not array.flags.writeable or not array.flags.c_contiguous:
        raise InvalidArgument(f"{name} must be a writeable ndarray in C order")
    return array


def weights(array, shape, name):
    """fp32 in C order. `shape` may lack the side of 1 that PyTorch's depthwise weights have behind the channels."""
    array = np.asarray(array, dtype=np.float32)
    if array.ndim == len(shape) + 1 and array.shape[1] == 1:
        array = array[:, 0]
    return np.ascontiguousarray(shaped(array, shape, name))
