"""What a job reads, as a stream of rows: folders, lists of paths, Parquet files, WebDataset tars. Memory does not depend on
their number."""
import os
import tarfile
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InvalidArgument, NotFound
from .sorting import in_order

ENDINGS = b".jpg", b".jpeg", b".png"


class Row(NamedTuple):
    """One input: a file (offset -1), a member of a tar (offset and size in bytes), or a row of a Parquet file (its number,
    size -1)."""

    name: str  # as the user knows it
    path: bytes  # absolute
    offset: int = -1
    size: int = -1
    fault: str = None  # what is wrong with it already

    @property
    def in_table(self):
        return self.offset >= 0 and self.size < 0


SCHEMA = pa.schema([
    ("name", pa.string()), ("path", pa.binary()), ("offset", pa.int64()), ("size", pa.int64()), ("fault", pa.string())
])


class Passed:
    """Counts what is passed over: hidden files, and files of other names."""

    count = 0


def rows(inputs, column=None, passed=None):
    """The rows of each input in turn. Raises NotFound or InvalidArgument for an input that is none; what is damaged inside
    one is a row with its fault."""
    passed = passed or Passed()
    for given in inputs:
        given = os.fsencode(given)
        if os.path.isdir(given):
            yield from _folder(given, passed)
        elif not os.path.exists(given):
            raise NotFound(f"{_shown(given)}: no such file or folder")
        elif given.endswith(b".tar"):
            yield from _tar(given, passed)
        elif given.endswith(b".parquet"):
            yield from _table(given, column)
        elif given.lower().endswith(ENDINGS):
            yield Row(_shown(given), os.path.abspath(given))
        elif given.endswith((b".txt", b".list")):
            yield from _list(given)
        else:
            raise InvalidArgument(
                f"{_shown(given)}: not a kind of input; allowed: a folder, .jpg, .jpeg, .png, .txt or .list (a path a line), "
                ".parquet, .tar"
            )


def image_column(file, path, column):
    """The column of a Parquet file that has the pictures, as (leaf, whether it holds paths)."""
    schema = file.schema_arrow
    names = [column] if column else schema.names
    for name in names:
        if name not in schema.names:
            raise InvalidArgument(f"{path}: column is '{name}'; allowed: {', '.join(schema.names)}")
        kind = schema.field(name).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return f"{name}.bytes", False
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return name, False
    for name in names:
        if pa.types.is_string(schema.field(name).type) or pa.types.is_large_string(schema.field(name).type):
            return name, True
    raise InvalidArgument(f"{path}: no column of pictures (binary, or a struct with bytes) or of paths (string)")


def _shown(path):
    return path.decode("utf-8", "backslashreplace")


def _folder(top, passed):
    absolute = os.path.abspath(top)
    inside = len(os.path.join(absolute, b""))
    for path in in_order(_walk(absolute, set(), passed)):
        yield Row(_shown(os.path.join(top, path[inside:])), path)


def _walk(folder, entered, passed):
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in entered:
        return  # a link to a folder that is read already
    entered.add((status.st_dev, status.st_ino))
    below = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if not entry.name.startswith(b"."):
                    below.append(entry.path)
            elif entry.name.startswith(b".") or not entry.name.lower().endswith(ENDINGS):
                passed.count += 1
            # A link to nothing is an input that cannot be read; a pipe would be waited for.
            elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
                yield entry.path
            else:
                passed.count += 1
    for path in sorted(below):  # which of two links to one folder is entered must not depend on the disk
        yield from _walk(path, entered, passed)


def _list(path):
    base = os.path.dirname(os.path.abspath(path))
    with open(path, "rb") as lines:
        for line in lines:
            line = line.rstrip(b"\r\n")
            if line:
                yield Row(_shown(line), os.path.join(base, line))


def _table(path, column):
    shown, absolute = _shown(path), os.path.abspath(path)
    try:
        file = pq.ParquetFile(os.fsdecode(path), pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        yield Row(shown, absolute, fault=f"{shown}: {_line(error)}")
        return
    with file:
        leaf, paths = image_column(file, shown, column)
        if not paths:
            for number in range(file.metadata.num_rows):
                yield Row(f"{shown}#{number}", absolute, number)
            return
        base = os.path.dirname(absolute)
        for batch in file.iter_batches(batch_size=4096, columns=[leaf]):
            for name in batch.column(0).to_pylist():
                yield Row(name or "", os.path.join(base, os.fsencode(name or "")))


def _tar(path, passed):
    shown, absolute = _shown(path), os.path.abspath(path)
    try:
        with tarfile.open(os.fsdecode(path), "r:") as archive:
            end = os.path.getsize(path)
            for member in archive:
                archive.members = []  # tarfile would keep them all
                name = member.name
                if not member.isfile() or member.issparse() or not os.fsencode(name).lower().endswith(ENDINGS):
                    passed.count += not member.isdir()
                elif member.offset_data + member.size > end:
                    yield Row(f"{shown}/{name}", absolute, fault=f"{shown}/{name}: the archive ends before it does")
                else:
                    yield Row(f"{shown}/{name}", absolute, member.offset_data, member.size)
    except (tarfile.TarError, OSError, ValueError) as error:
        yield Row(shown, absolute, fault=f"{shown}: {_line(error)}")


def _line(error):
    return " ".join(str(error).split()) or type(error).__name__


