"""The contents of inputs: one reader for a pipeline."""
import os
import threading

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import BadFile
from .listing import image_column

MOST_BYTES = 64 << 20  # as of a file (replk.h); what is longer is refused before it is read


class Tables:
    """Rows of Parquet files, asked for in rising order, read piece by piece: for one thread."""

    PIECE = 16  # rows that are read at once

    def __init__(self, column):
        self._column = column
        self._path = None
        self._rows = iter(())
        self._next = 0

    def content(self, row):
        """The bytes of the row's picture. Raises BadFile, and the next row may be read all the same."""
        try:
            if row.path != self._path or row.offset < self._next:
                self._open(row)
            while self._next <= row.offset:
                value = next(self._rows)
                self._next += 1
        except (pa.ArrowException, OSError, StopIteration) as error:
            self._path = None
            raise BadFile(f"{row.name}: {' '.join(str(error).split()) or 'the file ends before it'}") from error
        if value is None:
            raise BadFile(f"{row.name}: it is null")
        return value

    def _open(self, row):
        self._path = None
        file = pq.ParquetFile(os.fsdecode(row.path), pre_buffer=False, buffer_size=1 << 20)
        leaf, _ = image_column(file, os.fsdecode(row.path), self._column)
        first = 0
        groups = []
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if groups or row.offset < first + count:
                groups.append(group)
            else:
                first += count
        self._rows = self._values(file, leaf, groups, row.offset - first)
        self._next, self._path = row.offset, row.path

    def _values(self, file, leaf, groups, skipped):
        with file:
            for group in groups:  # one at a time: what is wrong with one must not cost the rows of another
                for batch in file.iter_batches(self.PIECE, row_groups=[group], columns=[leaf], use_threads=False):
                    column = batch.column(0)
                    if pa.types.is_struct(column.type):
                        column = column.field(0)
                    for value in column[min(skipped, len(column)):]:
                        yield value.as_py()
                    skipped = max(0, skipped - len(column))


class Reader:
    """Reads inputs into pixels as the network's own evaluation does. Any number of threads may call it."""

    def __init__(self, model):
        self._model = model
        self._last = threading.local()  # the tar that this thread read last, open

    def read(self, row, content, out):
        """content: of a row of a table its bytes or an error, else None. Raises what is wrong with the input."""
        if row.fault is not None:
            raise BadFile(row.fault)
        if isinstance(content, Exception):
            raise content
        if content is not None:
            self._model.decode(content, row.name, out.shape[:2], out)
        elif row.offset < 0:
            self._model.read(row.path, out.shape[:2], out)
        else:
            self._model.decode(self._member(row), row.name, out.shape[:2], out)

    def _member(self, row):
        if row.size > MOST_BYTES:
            raise BadFile(f"{row.name}: file size is {row.size} bytes; at most {MOST_BYTES} are read")
        if getattr(self._last, "path", None) != row.path:
            self._last.path = None
            self._last.file = open(row.path, "rb", buffering=0)  # closes the one before
            self._last.path = row.path
        content = os.pread(self._last.file.fileno(), row.size, row.offset)
        if len(content) < row.size:
            raise BadFile(f"{row.name}: the archive ends before it does")
        return content
