"""A job on this machine, without an engine."""
import contextlib

from .progress import Progress
from .worker import Worker


def run(job, cpus=None, share=(1, 1), readers=None, stream=None):
    """Runs the shards that are missing of a share (I, N: every N-th shard from the I-th on). Returns a dict with the inputs of
    the share, those done, and the errors of this run. The process must not have loaded another network before. cpus: as
    ``--cpus``, readers: as ``--readers`` (docs/batch.md)."""
    missing = job.missing(share)
    total = sum(job.rows_of(shard) for shard in range(share[0] - 1, job.shards, share[1]))
    progress = Progress(total, total - sum(map(job.rows_of, missing)), stream)
    if missing:
        with contextlib.closing(Worker(job, cpus, readers)) as worker:
            progress.begin()
            for _ in worker.work(missing, progress.add):
                pass
    progress.end()
    return progress.figures()
