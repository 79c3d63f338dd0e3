"""Models as files: weights that lie outside of them are read when they are needed, and copied piece by piece."""
import os
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ..errors import BadFile, InvalidArgument, NotFound
from ._graph import subgraphs

_LIMIT = 2**31 - 2**20  # of a file's own bytes: protobuf's is 2 GiB
_PIECE = 1 << 24
_ALIGNMENT = 4096


def load(path):
    """A model without its external weights."""
    if not path.is_file():
        raise NotFound(f"{path}: no such file")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own kinds of errors, which differ between its releases
        raise BadFile(f"{path} is no ONNX model: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
    if not model.graph.node or not model.opset_import:
        raise BadFile(f"{path} is no ONNX model: it has no nodes or no opset")
    for node in model.graph.node:
        if not all(isinstance(name, str) for name in (*node.input, *node.output, node.name, node.op_type)):
            raise BadFile(f"{path} is no ONNX model: a name is not UTF-8")
    return model


def all_tensors(graph):
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in subgraphs(node):
            yield from all_tensors(inner)


def _is_external(tensor):
    return tensor.data_location == onnx.TensorProto.EXTERNAL


class External:
    """The files beside a model."""

    def __init__(self, path):
        self.path = path

    def place(self, tensor):
        """(file, offset, bytes) of a tensor. BadFile where it lies elsewhere, or not whole."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        where = f"{self.path}: the external data of '{tensor.name}'"
        homes = {self.path.parent.resolve(), self.path.resolve().parent}  # a link's, and where it leads
        file = self.path.parent / location
        if not location or os.path.isabs(location) or ".." in Path(location).parts:
            raise BadFile(f"{where} is at '{location}'; allowed: a file beside the model")
        if not file.is_file():
            raise BadFile(f"{where}: there is no file '{location}'")
        if not any(home in file.resolve().parents for home in homes):
            raise BadFile(f"{where} is at '{location}', which leads elsewhere; allowed: a file beside the model")
        size = file.stat().st_size
        try:
            offset = int(entries.get("offset", 0))
            length = int(entries.get("length", size - offset))
        except ValueError as error:
            raise BadFile(f"{where} has an offset or a length that is no number") from error
        if offset < 0 or length < 0 or offset + length > size:
            raise BadFile(f"{where} ends at byte {offset + length} of '{location}', which has {size}")
        return file, offset, length

    def read(self, tensor):
        """A tensor's array. ValueError where it holds something else than it says."""
        if _is_external(tensor):
            file, offset, length = self.place(tensor)
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.data_location = onnx.TensorProto.DEFAULT
            del copy.external_data[:]
            count = 1
            for size in tensor.dims:
                count *= size
            if count < 0 or count > 8 * length:
                raise ValueError("its sizes want more than its data")
            with open(file, "rb") as data:
                data.seek(offset)
                copy.raw_data = data.read(length)
            tensor = copy
        elif any(size < 0 for size in tensor.dims):
            raise ValueError("a size is negative")
        try:
            return np.asarray(numpy_helper.to_array(tensor))
        except Exception as error:  # what it raises depends on what is wrong
            raise ValueError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def save(model, path, external):
    """Writes a model, and what was external, or is too much for one file, into PATH.data. Nothing is left of what fails."""
    data = path.with_name(path.name + ".data")
    parts = [path.with_name(path.name + ".part"), data.with_name(data.name + ".part")]
    try:
        outside = _write_data(model, parts[1], data.name, external)
        with open(parts[0], "wb") as file:
            file.write(model.SerializeToString())
        if outside:
            os.replace(parts[1], data)
        os.replace(parts[0], path)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {error.strerror}") from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _write_data(model, part, name, external):
    tensors = [t for t in all_tensors(model.graph) if _is_external(t)]
    inside = [t for t in all_tensors(model.graph) if t.HasField("raw_data")]
    if sum(len(t.raw_data) for t in inside) > _LIMIT - sum(len(t.name) + 64 for t in inside):
        tensors += [t for t in inside if len(t.raw_data) >= 1024]
    if not tensors:
        return False
    with open(part, "wb") as out:
        for tensor in tensors:
            out.seek(-out.tell() % _ALIGNMENT, os.SEEK_CUR)
            offset = out.tell()
            if _is_external(tensor):
                _copy(*external.place(tensor), out)
            else:
                out.write(tensor.raw_data)
                tensor.ClearField("raw_data")
            length = out.tell() - offset
            tensor.data_location = onnx.TensorProto.EXTERNAL
            del tensor.external_data[:]
            for key, value in (("location", name), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
    return True


def _copy(file, offset, length, out):
    with open(file, "rb") as data:
        data.seek(offset)
        while length:
            piece = data.read(min(length, _PIECE))
            if not piece:
                raise BadFile(f"{file} became shorter while it was copied")
            out.write(piece)
            length -= len(piece)
