"""A job on a Spark cluster, by mapInPandas: a task a shard, a model a Python worker. Lost executors are Spark's to replace; a
driver may be run again.

    session = SparkSession.builder.config("spark.task.cpus", 16).getOrCreate()
    replk.batch.spark.run(replk.batch.Job.open("/shared/job"), session)

All nodes see the job's folder, the inputs and the weights under the same paths.
"""
import pandas

from .job import Job
from .worker import Worker

SCHEMA = "shard long, rows long, errors long, started string, finished string, host string, kind string"
_workers = {}  # of this Python worker, which Spark uses again


def run(job, session, cpus=None):
    """Runs what is missing of a job. Returns what ``replk.batch.run`` does, without rates.

    cpus: CPUs of a task, which uses all of them; None: the session's spark.task.cpus. If that is the number of cores of an
    executor, a node has one model.
    """
    cpus = cpus or int(session.conf.get("spark.task.cpus", "1"))
    missing, folder = job.missing(), str(job.folder.resolve())

    def finish(frames):
        for frame in frames:
            worker = _worker(folder, cpus)
            yield pandas.DataFrame([worker.finish(missing[number]) for number in frame["id"]])

    rows = []
    if missing:
        # A partition for each shard: what an executor was given is lost with it, and no more.
        rows = session.range(0, len(missing), 1, len(missing)).mapInPandas(finish, SCHEMA).collect()
    done = job.count - sum(map(job.rows_of, missing)) + sum(row["rows"] for row in rows)
    return {"done": done, "total": job.count, "errors": sum(row["errors"] for row in rows)}


def _worker(folder, cpus):
    if (folder, cpus) not in _workers:
        _workers[folder, cpus] = Worker(Job.open(folder), cpus)
    return _workers[folder, cpus]
