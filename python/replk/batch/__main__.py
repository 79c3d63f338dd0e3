"""python -m replk.batch run|plan|merge. Exit codes are the program's: 0 done, 1 done with failures, 2 wrong use or input."""
import argparse
import contextlib
import json
import re
import sys

from ..errors import Error, InvalidArgument


def size(text):
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not sides:
        raise argparse.ArgumentTypeError(f"'{text}' is not HxW, or 224 for 224x224")
    return [int(sides[1]), int(sides[2] or sides[1])]


def share(text):
    parts = re.fullmatch(r"(\d+)/(\d+)", text)
    if not parts:
        raise argparse.ArgumentTypeError(f"'{text}' is not I/N, such as 1/4")
    return int(parts[1]), int(parts[2])


def job_options(command):
    command.add_argument("inputs", nargs="*",
                         help="folders, lists of paths (.txt), .parquet, .tar or image files; none: the job that is there")
    command.add_argument("--out", required=True, metavar="JOB", help="the job's folder; what is finished there is not done again")
    command.add_argument("--model", metavar="NAME", help="the network, such as replknet-31b")
    command.add_argument("--weights", metavar="FILE.safetensors", help="its weights (default: random ones)")
    command.add_argument("--seed", type=int, default=1, help="seed of the random weights (default: 1)")
    command.add_argument("--precision", metavar="P", help="fp32, bf16, bf16x3 or int8 (default: as the weights are)")
    command.add_argument("--exact", action="store_true", help="the same bits on every machine, slower")
    command.add_argument("--want", default="top5", metavar="W,...",
                         help="topK, logits, stage1 to stage4, embedding (default: top5)")
    command.add_argument("--size", type=size, metavar="HxW", help="input size of the network (default: the model's)")
    command.add_argument("--shard-size", type=int, default=1024, metavar="N", help="inputs of a part (default: 1024)")
    command.add_argument("--column", metavar="NAME",
                         help="the column of Parquet files that has pictures or paths (default: the first that fits)")
    command.add_argument("--batch", type=int, metavar="N", help="inputs that go through the network together (default: measured)")
    command.add_argument("--threads", type=int, metavar="N", help="threads of one run (default: measured)")
    command.add_argument("--runs", type=int, metavar="N",
                         help="runs at a time, on one copy of the weights (default: the CPUs over the threads of a run)")
    command.add_argument("--cpus", type=int, metavar="N", help="CPUs that this node uses (default: all that the process may use)")
    command.add_argument("--tune", choices=("auto", "now", "off"), default="auto",
                         help="measure which tilings are fastest first (default: auto, in long jobs)")
    command.add_argument("--tune-budget", type=float, default=2.0, metavar="SECONDS",
                         help="at most so long for each choice (default: 2)")
    command.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def parser():
    program = argparse.ArgumentParser(prog="python -m replk.batch", description=__doc__)
    commands = program.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do what is still missing of a job")
    job_options(run)
    run.add_argument("--share", type=share, default=(1, 1), metavar="I/N",
                     help="every N-th shard from the I-th on, so that N nodes share the work")
    run.add_argument("--readers", type=int, metavar="N",
                     help="threads that read and decode (default: the CPUs; more for a store that answers slowly)")
    job_options(commands.add_parser("plan", help="make the job, and find the settings for this kind of machine"))
    merge = commands.add_parser("merge", help="join the parts of a finished job into one Parquet file")
    merge.add_argument("job", metavar="JOB", help="the job's folder")
    merge.add_argument("--out", required=True, metavar="FILE.parquet", help="the file to write")
    merge.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    return program


def the_job(arguments):
    from .job import Job

    if not arguments.inputs and arguments.model is None:
        return Job.open(arguments.out)
    if arguments.model is None:
        raise InvalidArgument("--model is missing; allowed: a network's name")
    a = arguments
    return Job.make(
        a.out, a.inputs, a.model, a.weights, precision=a.precision, want=a.want, size=a.size, shard_size=a.shard_size,
        column=a.column, exact=a.exact, seed=a.seed, batch=a.batch, threads=a.threads, runs=a.runs, tune=a.tune,
        tune_budget=a.tune_budget
    )


def run(arguments):
    from .local import run

    figures = run(the_job(arguments), arguments.cpus, arguments.share, arguments.readers)
    if arguments.json:
        print(json.dumps(figures))
    return 1 if figures["errors"] else 0


def plan(arguments):
    from .tuning import node_settings

    job = the_job(arguments)
    settings = node_settings(job, arguments.cpus)
    missing = job.missing()
    rate = max((m["images_per_second"] for m in settings.measured), default=None)
    left = sum(map(job.rows_of, missing))
    figures = {
        "inputs": job.count, "left": left, "shards": job.shards, "shards_left": len(missing), "kind": settings.kind,
        "batch": settings.batch, "threads": settings.threads, "runs": settings.runs, "readers": settings.readers,
        "models": 1, "node_seconds_left": rate and round(left / rate, 1), "why": settings.why, "measured": settings.measured
    }
    if arguments.json:
        print(json.dumps(figures))
        return 0
    print(f"{job.folder}: {job.count} inputs in {job.shards} shards, {len(missing)} shards left")
    print(f"{settings.kind}: one model a node; batch {settings.batch}, {settings.threads} threads a run, {settings.runs} runs "
          f"at a time; {settings.readers} threads read and decode")
    for line in settings.why:
        print(f"  {line}")
    return 0


def merge(arguments):
    from .job import Job
    from .merge import merge

    rows = merge(Job.open(arguments.job), arguments.out)
    print(json.dumps({"rows": rows, "out": arguments.out}) if arguments.json else f"{rows} rows in {arguments.out}")
    return 0


class NoPandas:
    """pyarrow imports pandas, where it is installed, before it makes its first array, to know pandas's own types again: a
    third of a second of a program that has none. What it does not find then, it does not look for again."""

    def __enter__(self):
        sys.meta_path.insert(0, self)

    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not needed")

    def __exit__(self, *error):
        sys.meta_path.remove(self)


def main(arguments=None):
    arguments = parser().parse_args(arguments)
    try:
        return {"run": run, "plan": plan, "merge": merge}[arguments.command](arguments)
    except (Error, OSError) as error:
        if arguments.json:
            print(json.dumps({"error": str(error)}))
        print(f"replk.batch: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"replk.batch: {error}; pip install pyarrow", file=sys.stderr)
        return 2


if __name__ == "__main__":
    with contextlib.suppress(ModuleNotFoundError), NoPandas():  # main() says what to install
        import pyarrow

        pyarrow.array([0])
    sys.exit(main())
