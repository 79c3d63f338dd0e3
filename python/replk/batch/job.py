"""A job: a folder with what is asked for (manifest.json), its inputs (inputs.parquet), and the parts that are finished."""
import hashlib
import json
import os
import shutil
import threading
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import BadFile, InvalidArgument, NotFound
from .listing import SCHEMA, Passed, Row, rows
from .manifest import FIELDS, FORMAT, fault, read as read_manifest
from .part import finished, sync_folder, write_whole
from .wanted import Wanted


def file_hash(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _hash(file)


def _hash(file):  # Python 3.10
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


class Job:
    """``Job.make`` a new one or find the same one; ``Job.open`` one that exists. Any number of processes may have it open."""

    def __init__(self, folder, manifest):
        self.folder, self.manifest = Path(folder), manifest
        self.id = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        self.wanted = Wanted(manifest["want"])
        self.shard_size, self.count = manifest["shard_size"], manifest["inputs"]["count"]
        self.shards = -(-self.count // self.shard_size)
        self._inputs, self._reading = None, threading.Lock()

    @classmethod
    def open(cls, folder):
        path = Path(folder) / "manifest.json"
        try:
            manifest = read_manifest(path)
        except FileNotFoundError:
            raise NotFound(f"{folder}: no job is there (no manifest.json)") from None
        return cls(folder, manifest)

    @classmethod
    def make(
        cls, folder, inputs, model, weights=None, *, precision=None, want="top5", size=None, shard_size=1024, column=None,
        exact=False, seed=1, batch=None, threads=None, runs=None, tune="auto", tune_budget=2.0
    ):
        """The job of this folder. One that is there must be the same in everything that its results depend on.

        inputs: folders, lists (.txt, .list: a path a line, relative to the list), .parquet, .tar and image files. model,
        weights, precision, exact, seed: as for ``replk.Model``. want: as ``--want`` (docs/batch.md). size: a side, or (height,
        width); None: the model's. shard_size: inputs of a part. column: the column of Parquet files that has the pictures.
        batch (images of a run), threads (of a run), runs (at a time): None for what the first node of a kind finds best. tune:
        ``now``, ``off``, or ``auto`` (if the job is long enough to be worth it); tune_budget: at most so many seconds a choice.
        """
        folder = Path(folder)
        if not inputs:
            raise InvalidArgument("inputs is empty; allowed: at least one folder, list, table, archive or image")
        Wanted(want)  # says more of what is wrong than a field's check
        manifest = {
            "format": FORMAT,
            "model": model,
            "weights": None if weights is None else os.path.abspath(weights),
            "weights_sha256": None if weights is None else cls._weights_hash(weights),
            "precision": precision,
            "exact": exact,
            "seed": seed if weights is None else None,
            "size": [size, size] if isinstance(size, int) else size and list(size),
            "want": want,
            "shard_size": shard_size,
            "column": column,
            "batch": batch,
            "threads": threads,
            "runs": runs,
            "tune": tune,
            "tune_budget": tune_budget,
        }
        wrong = fault(manifest, FIELDS.keys() - {"inputs"})
        if wrong:
            raise InvalidArgument(wrong)
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        temporary = folder / f"inputs.parquet.{uuid.uuid4().hex}.tmp"
        try:
            manifest["inputs"] = cls._list(temporary, inputs, column, shard_size)
            if (folder / "manifest.json").exists():
                job = cls.open(folder)
                if job.manifest == manifest or job._begun():
                    job._must_be(manifest)
                    return job
                shutil.rmtree(folder / "tuning", True)
            os.replace(temporary, folder / "inputs.parquet")
            sync_folder(folder)
            write_whole(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
        finally:
            temporary.unlink(missing_ok=True)
        return cls.open(folder)

    @staticmethod
    def _weights_hash(weights):
        try:
            return file_hash(weights)
        except FileNotFoundError:
            raise NotFound(f"{weights}: no such file") from None
        except OSError as error:
            raise BadFile(f"{weights}: {error.strerror}") from None

    @staticmethod
    def _list(path, inputs, column, shard_size):
        """Writes the listing, a row group a shard; returns what the manifest says of it."""
        digest, count, passed = hashlib.sha256(), 0, Passed()
        with pq.ParquetWriter(path, SCHEMA, use_dictionary=False, write_statistics=False, compression="zstd") as writer:
            held = []

            def flush():
                columns = [pa.array(values, field.type) for values, field in zip(zip(*held), SCHEMA)]
                writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))
                digest.update(repr(held).encode("utf-8", "surrogateescape"))
                held.clear()

            for row in rows(inputs, column, passed):
                held.append(tuple(row))
                count += 1
                if len(held) == shard_size:
                    flush()
            if held:
                flush()
        if count == 0:
            raise InvalidArgument(f"{', '.join(map(str, inputs))}: no .jpg, .jpeg or .png files there")
        return {"given": [os.path.abspath(i) for i in map(os.fspath, inputs)], "count": count, "passed_over": passed.count,
                "sha256": digest.hexdigest()}

    def _begun(self):
        """Whether there are results already; else a wrong option may still be put right."""
        return any(self.folder.glob("parts/*.parquet"))

    def _must_be(self, manifest):
        for name, value in manifest.items():
            mine = self.manifest.get(name)
            if mine != value:
                if name == "inputs":
                    mine, value = (f"{m['count']} with hash {m['sha256'][:12]}" for m in (mine, value))
                raise InvalidArgument(
                    f"{self.folder}: its job has {name} {mine}, this run asks for {value}; another job needs another folder"
                )

    def rows(self, shard):
        """The inputs of a shard."""
        with self._reading:
            if self._inputs is None:
                self._inputs = pq.ParquetFile(self.folder / "inputs.parquet")
            table = self._inputs.read_row_group(shard, use_threads=False)
        return list(map(Row._make, zip(*(column.to_pylist() for column in table.columns))))

    def rows_of(self, shard):
        """How many inputs a shard has."""
        return min(self.shard_size, self.count - shard * self.shard_size)

    def part(self, shard):
        return self.folder / "parts" / f"part-{shard:06}.parquet"

    def finished(self, shard):
        """The metadata of a shard's part, or None."""
        return finished(self.part(shard), self.id, shard, self.rows_of(shard))

    def missing(self, share=(1, 1)):
        """The shards that are left of a share (I, N): every N-th from the I-th on."""
        index, count = share
        if not 1 <= index <= count:
            raise InvalidArgument(f"share is {index}/{count}; allowed: I/N with I in 1..N")
        return [shard for shard in range(index - 1, self.shards, count) if self.finished(shard) is None]

    def image_size(self, model):
        return tuple(self.manifest["size"] or (model.size, model.size))
