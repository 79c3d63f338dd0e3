"""From file to file: rewritten, checked, and only then put in its place."""
import os
import tempfile

from ..errors import InvalidArgument
from . import _check, _storage, library_path
from ._rewrite import Rewriter


def _narrow(model):
    """Whether anything of it is bfloat16 or float16."""
    return any(t.data_type in (10, 16) for t in _storage.all_tensors(model.graph)) or any(
        v.type.tensor_type.elem_type in (10, 16) for v in model.graph.input
    )


def run(src, dst, min_kernel, check, inputs):
    """(entries, check or None, why there was none)."""
    model = _storage.load(src)
    external = _storage.External(src)
    for tensor in _storage.all_tensors(model.graph):
        if tensor.data_location == tensor.EXTERNAL:
            external.place(tensor)  # before anything is done: whether all of it is there
    narrow = _narrow(model)
    entries = Rewriter(model, external.read, min_kernel).run()
    if not dst.parent.is_dir():
        raise InvalidArgument(f"{dst}: there is no directory {dst.parent}")
    with tempfile.TemporaryDirectory(dir=dst.parent, prefix=".replk-") as directory:
        # The data's name is in the model, so that it has its own from the start.
        made = type(dst)(directory) / dst.name
        _storage.save(model, made, external)
        found, why = None, "not asked for"
        if check:
            try:
                found, why = _check.compare(src, made, library_path(), narrow, inputs), ""
            except _check.Unchecked as reason:
                why = str(reason)
        data = made.with_name(made.name + ".data")
        try:
            if data.exists():
                os.replace(data, dst.with_name(data.name))
            os.replace(made, dst)
        except OSError as error:
            raise InvalidArgument(f"{dst} cannot be written: {error.strerror}") from error
    return entries, found, why
