"""What a node does: shards of a job through one model, a part for each."""
from typing import NamedTuple

import replk

from .contents import Tables
from .part import PartWriter
from .pipeline import Batch, Pipeline
from .tuning import ProcessCache, node_settings


class Done(NamedTuple):
    """One shard that is finished; its seconds are those of the part's metadata."""

    shard: int
    rows: int
    errors: int


class Worker:
    """One model of a job on this node, its weights shared by the runs that are under way at a time.

    cpus: how many this node gives; None for ``replk.default_threads()``. The node's kind is tuned first if no node of its kind
    was. readers: threads that read and decode; None: one a CPU, at least two; more where a store answers slowly.
    """

    def __init__(self, job, cpus=None, readers=None):
        self.job = job
        self.settings = node_settings(job, cpus)
        ProcessCache.workers.add(self)
        self.model = load_model(job, self.settings.threads)
        self.size = job.image_size(self.model)
        job.wanted.check(self.model)
        self._meanings = job.wanted.meanings(self.model, self.size)
        self._pipeline = Pipeline(
            self.model, job.wanted, self.size, self.settings.batch, self.settings.runs, readers or self.settings.readers
        )

    def work(self, shards, advance=lambda inputs, errors: None):
        """Gives a Done for each shard, in order; calls advance as inputs are finished. Several threads may work at once."""
        writer = None
        try:
            for batch, errors, results in self._pipeline.results(self._batches(shards)):
                if writer is None:
                    first = batch.shard * self.job.shard_size
                    writer = PartWriter(self.job.part(batch.shard), first, self.job.wanted, self._metadata(batch.shard))
                writer.add([row.name for row in batch.rows], errors, results)
                advance(len(errors), len(errors) - errors.count(None))
                if batch.last:
                    writer.finish()
                    done, writer = Done(batch.shard, writer.rows, writer.errors), None
                    yield done
        finally:
            if writer is not None:
                writer.abandon()

    def finish(self, shard):
        """Does one shard unless its part is there; a dictionary about the part."""
        if self.job.finished(shard) is None:
            for _ in self.work([shard]):
                pass
        found = self.job.finished(shard)
        return {
            "shard": shard, "rows": int(found["replk.rows"]), "errors": int(found["replk.errors"]),
            **{name: found[f"replk.{name}"] for name in ("started", "finished", "host", "kind")}
        }

    def close(self):
        """Its threads end. Another job may use this process."""
        self._pipeline.close()
        ProcessCache.workers.discard(self)

    def _batches(self, shards):
        tables = Tables(self.job.manifest["column"])
        for shard in shards:
            rows = self.job.rows(shard)
            for begin in range(0, len(rows), self.settings.batch):
                piece = rows[begin : begin + self.settings.batch]
                contents = [self._content(tables, row) if row.in_table else None for row in piece]
                yield Batch(shard, piece, contents, begin + self.settings.batch >= len(rows))

    @staticmethod
    def _content(tables, row):
        try:
            return tables.content(row)
        except replk.Error as error:
            return error

    def _metadata(self, shard):
        return {
            "replk.job": self.job.id, "replk.shard": str(shard), "replk.kind": self.settings.kind,
            "replk.tune_cache": self.settings.cache_sha256, **self._meanings
        }


def load_model(job, threads):
    m = job.manifest
    return replk.Model(
        m["model"], m["weights"], m["precision"], threads, exact=m["exact"], **({} if m["seed"] is None else {"seed": m["seed"]})
    )
