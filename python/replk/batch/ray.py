"""A job on a Ray cluster, by Ray Data: an actor a node, a model an actor. Nodes and workers may be lost; the driver
may be run again.

    ray.init("auto")
    replk.batch.ray.run(replk.batch.Job.make("/shared/job", ["/shared/photos"], "replknet-31b", "/shared/31b.safetensors"))

All nodes see the job's folder, the inputs and the weights under the same paths.
"""
import ray
from ray.data import ActorPoolStrategy

from ..errors import InvalidArgument
from .job import Job
from .progress import Progress
from .worker import Worker


class Shards:
    """The actor: rows with the number of a shard become rows about its part."""

    def __init__(self, folder, cpus):
        self._worker = Worker(Job.open(folder), cpus)

    def __call__(self, rows):
        finished = [self._worker.finish(int(shard)) for shard in rows["shard"]]
        return {name: [one[name] for one in finished] for name in finished[0]}


def run(job, num_cpus=None, actors=None, stream=None):
    """Runs what is missing of a job on the cluster that this process is connected to. Returns what ``replk.batch.run`` does.

    num_cpus: CPUs of an actor, which uses all of them; None: those of the smallest node, so that a node has one model.
    actors: the most there may be; None: as many as the nodes have room for.
    """
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    num_cpus = num_cpus or min(filter(None, nodes), default=0)
    room = sum(cpus // num_cpus for cpus in nodes) if num_cpus >= 1 else 0
    if room == 0:
        raise InvalidArgument(f"num_cpus is {num_cpus}; allowed: at least 1, and no more than a node has ({nodes})")
    missing = job.missing()
    progress = Progress(job.count, job.count - sum(map(job.rows_of, missing)), stream)
    if missing:
        size = min(actors or room, len(missing))
        # A block for each shard: what an actor was given is lost with it, and no more. The list itself needs no CPU to be read.
        shards = ray.data.from_items([{"shard": shard} for shard in missing], override_num_blocks=len(missing))
        finished = shards.map_batches(
            Shards, fn_constructor_args=(str(job.folder.resolve()), num_cpus), batch_size=1, num_cpus=num_cpus,
            # Two shards at a time: the next one is decoded while the last batch of one is in the network.
            compute=ActorPoolStrategy(
                min_size=1, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=4, max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True
            )
        )
        for row in finished.iter_rows():
            progress.add(row["rows"], row["errors"])
    progress.end()
    return progress.figures()
