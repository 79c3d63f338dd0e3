"""The numbers of a tensor, whatever holds them: NumPy arrays here, so that a .safetensors file needs no PyTorch."""
import numpy as np

from .errors import Refused

# Types as a .safetensors file names them, and how NumPy holds them: of BF16 the bits.
TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}
FLOATS = "F64", "F32", "F16", "BF16"
WANTED = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
LARGEST = {"F32": 3.4028234663852886e38, "F16": 65504.0, "BF16": 3.3895313892515355e38}


class Tensor:
    """An array and its type's name; `values` are float32 or float64."""

    __slots__ = "kind", "array"

    def __init__(self, kind, array):
        self.kind, self.array = kind, array

    @property
    def shape(self):
        return self.array.shape

    def values(self):
        if self.kind == "BF16":
            return (self.array.astype(np.uint32) << 16).view(np.float32)
        return self.array if self.kind == "F64" else self.array.astype(np.float32, copy=False)

    def reshaped(self, shape):
        return Tensor(self.kind, self.array.reshape(shape))


def of_values(values, kind):
    """Floats rounded to a type, to nearest even."""
    with np.errstate(over="ignore"):
        if kind != "BF16":
            return Tensor(kind, np.ascontiguousarray(values, TYPES[kind]))
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        rounded = ((bits.astype(np.uint64) + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        return Tensor(kind, np.where(np.isnan(values), np.uint16(0x7FC0), rounded))


def of_torch(name, tensor):
    """A PyTorch tensor's numbers; refused where there are none that a network could have."""
    import torch
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_quantized or tensor.is_meta:
        raise Refused(f"'{name}' is {'quantised' if tensor.is_quantized else 'without data (meta)'}; numbers are wanted")
    if not tensor.is_floating_point() and (tensor.is_complex() or not is_counter(name)):
        raise Refused(f"'{name}' is {kind}; floating point is wanted")
    try:
        tensor = tensor.detach()
        tensor = (tensor if tensor.layout == torch.strided else tensor.to_dense()).cpu().contiguous()
        if tensor.dtype == torch.bfloat16:  # NumPy has no such type
            return Tensor("BF16", tensor.view(torch.int16).numpy().view(np.uint16))
        if not tensor.is_floating_point():
            return Tensor("I64", tensor.to(torch.int64).numpy())
        if tensor.dtype not in (torch.float64, torch.float32, torch.float16):
            tensor = tensor.to(torch.float32)  # fp8: exact
        array = tensor.numpy()
    except (RuntimeError, NotImplementedError, TypeError, MemoryError) as error:
        raise Refused(f"'{name}' ({kind}, {tensor.layout}) cannot be read: {str(error).splitlines()[0]}") from error
    return Tensor({8: "F64", 4: "F32", 2: "F16"}[array.dtype.itemsize], array)


def is_counter(name):
    return name.endswith("num_batches_tracked")


def converted(name, tensor, dtype):
    """The tensor in a type that replk reads: dtype's, its own, or float32; refused where it would be other numbers."""
    if tensor.kind not in FLOATS:
        if not is_counter(name):
            raise Refused(f"'{name}' is {tensor.kind}; floating point is wanted")
        return Tensor("I64", tensor.array.astype(np.int64, copy=False))
    target = WANTED[dtype] if dtype else tensor.kind if tensor.kind in WANTED.values() else "F32"
    if target == tensor.kind:
        return tensor
    values = tensor.values()
    made = of_values(values, target)
    lost = np.isfinite(values) & ~np.isfinite(made.values())
    if lost.any():
        more = "" if target == "F32" else "; --dtype fp32 has more room"
        raise Refused(f"'{name}' holds {values[lost][0]:g}; {target} ends at {LARGEST[target]:g}{more}")
    return made
