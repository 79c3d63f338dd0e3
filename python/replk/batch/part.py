"""The result of one shard: a Parquet file that is there as a whole or not at all."""
import datetime
import os
import socket
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import BadFile, InvalidArgument

GROUP_BYTES = 8 << 20  # results that are kept in memory before they are written


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def sync_folder(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path, content):
    """A small file, there as a whole or not at all."""
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(os.path.dirname(path))


def schema(wanted):
    return pa.schema([
        pa.field("index", pa.int64(), False), pa.field("input", pa.string(), False), pa.field("error", pa.string()),
        *wanted.fields()
    ])


class PartWriter:
    """Collects the rows of one shard, in order, of which the first is the job's input `first`. Until finish() nothing has the
    part's name."""

    def __init__(self, path, first, wanted, metadata):
        self.path, self._first = os.fspath(path), first
        self.rows = self.errors = 0
        self._schema = schema(wanted)
        self._metadata = {**metadata, "replk.started": now(), "replk.host": socket.gethostname()}
        folder, self._name = os.path.split(self.path)
        self._unfinished = os.path.join(folder, ".unfinished")  # hidden: readers of the folder pass it over
        os.makedirs(self._unfinished, exist_ok=True)
        self._temporary = os.path.join(self._unfinished, f"{self._name}.{uuid.uuid4().hex}")
        self._file = open(self._temporary, "wb")
        self._writer = pq.ParquetWriter(self._file, self._schema, use_dictionary=False, write_statistics=["index"])
        self._wanted = wanted
        self._names, self._errors, self._results, self._held_bytes = [], [], [], 0

    def add(self, names, errors, results):
        """The next rows. errors: a message or None for each; results: of Wanted.run, where not all failed."""
        self._names += names
        self._errors += errors
        failed = len(errors) - errors.count(None)
        self.errors += failed
        if failed < len(errors):
            good = slice(len(names)) if not failed else [i for i, error in enumerate(errors) if error is None]
            self._results.append({name: values[good] for name, values in results.items()})
            self._held_bytes += sum(values.nbytes for values in self._results[-1].values())
        if self._held_bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self):
        """Writes what is held, a row group: arrays for many batches at once cost little a row."""
        if not self._names:
            return
        good = np.array([error is None for error in self._errors])
        offsets = np.concatenate([[0], np.cumsum(good)])
        columns = {}
        if self._results:
            columns = self._wanted.columns({
                name: np.concatenate([results[name] for results in self._results]) for name in self._results[0]
            })
        arrays = [
            pa.array(np.arange(self._first + self.rows, self._first + self.rows + len(good))),
            pa.array(self._names, pa.string()), pa.array(self._errors, pa.string())
        ]
        arrays += [self._lists(field, good, offsets, columns) for field in list(self._schema)[3:]]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self.rows += len(good)
        self._names, self._errors, self._results, self._held_bytes = [], [], [], 0

    @staticmethod
    def _lists(field, good, offsets, columns):
        if not columns:
            return pa.nulls(len(good), field.type)
        values = columns[field.name]
        return pa.ListArray.from_arrays(
            pa.array((offsets * values.shape[1]).astype(np.int32)), pa.array(np.ascontiguousarray(values).reshape(-1)),
            type=field.type, mask=pa.array(~good)
        )

    def finish(self):
        """Publishes the part. Where another process was faster its part stays."""
        self._flush()
        self._writer.add_key_value_metadata({
            **self._metadata, "replk.finished": now(), "replk.rows": str(self.rows), "replk.errors": str(self.errors)
        })
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if not os.path.exists(self.path):
            try:
                os.replace(self._temporary, self.path)
            except FileNotFoundError:  # swept away by another process, whose part is there now
                if not os.path.exists(self.path):
                    raise
            sync_folder(os.path.dirname(self.path))
        self._sweep()

    def abandon(self):
        self._writer.close()
        self._file.close()
        _unlink(self._temporary)

    def _sweep(self):
        """What processes that died left of this shard. One that lives and is slower finds the part published."""
        with os.scandir(self._unfinished) as entries:
            for entry in entries:
                if entry.name.startswith(f"{self._name}."):
                    _unlink(entry.path)


def _unlink(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def finished(path, job_id, shard, rows):
    """The metadata of a part that is whole, or None. A part of another job is an error."""
    try:
        with pq.ParquetFile(path) as file:
            found, count = {k.decode(): v.decode() for k, v in (file.metadata.metadata or {}).items()}, file.metadata.num_rows
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError):
        folder, name = os.path.split(path)
        os.replace(path, os.path.join(folder, f".{name}.damaged"))  # by the disk: what is published was whole
        return None
    if found.get("replk.job") != job_id or found.get("replk.shard") != str(shard):
        raise InvalidArgument(
            f"{path}: it is of job {found.get('replk.job')}, shard {found.get('replk.shard')}; allowed: {job_id}, {shard}"
        )
    if count != rows:
        raise BadFile(f"{path}: {count} rows; allowed: {rows}")
    return found
