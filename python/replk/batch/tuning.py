"""What a kind of machine runs a job with: settings and tune cache, found out once by the first node of the kind.

They lie in the job's folder, tuning/KIND.json and KIND.jsonl. Nodes of the kind start with them, others never see them.
"""
import atexit
import fcntl
import hashlib
import json
import os
import shutil
import socket
import tempfile
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path

import replk

from ..errors import BadFile, InvalidArgument
from .part import now, write_whole


@dataclass(frozen=True)
class Settings:
    """batch: inputs that go through the network together. threads: of one such run. runs: at a time, all on one copy of the
    weights. readers: threads that read and decode."""

    kind: str
    batch: int
    threads: int
    runs: int
    readers: int
    cache_sha256: str
    why: list  # lines
    measured: list  # dictionaries


def machine(cpus):
    """What makes two machines of one kind: their tune records are worth the same, and so are their settings."""
    info = replk.cpu_info()
    return {
        "vendor": info.vendor, "family": info.family, "model": info.model, "stepping": info.stepping, "isa": info.isa,
        "features": sorted(info.features), "l1d": info.l1d_bytes, "l2": info.l2_bytes, "l3": info.l3_bytes, "cores": info.cores,
        "cpus": cpus, "version": replk.version()
    }


def kind_of(machine):
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:10]
    return f"{machine['vendor']}-{machine['family']}-{machine['model']}-{machine['isa']}-{machine['cpus']}cpu-{digest}"


class ProcessCache:
    """The tune cache of this process, a file of its own: the library looks up the place once, and the content whenever it
    changes."""

    folder = None
    users = None  # what REPLK_CACHE_DIR was before
    workers = weakref.WeakSet()  # that have networks whose plans are made by it

    @classmethod
    def adopt(cls, content, job):
        """From now on plans of this process are chosen by these records, and by no others of its user."""
        others = [worker.job.folder for worker in cls.workers if worker.job.id != job.id]
        if others:
            raise InvalidArgument(f"{job.folder}: this process runs the job {others[0]}; allowed: one job at a time")
        if cls.folder is None:
            cls.users = os.environ.get("REPLK_CACHE_DIR")
            cls.folder = tempfile.mkdtemp(prefix="replk-batch-")
            atexit.register(shutil.rmtree, cls.folder, True)
            os.environ["REPLK_CACHE_DIR"] = cls.folder
        write_whole(cls.path(), content)

    @classmethod
    def path(cls):
        return os.path.join(cls.folder, "tune.jsonl")


def users_cache():
    """What this machine's user has tuned before."""
    folder = ProcessCache.users if ProcessCache.folder else os.environ.get("REPLK_CACHE_DIR")
    if not folder:
        xdg = os.environ.get("XDG_CACHE_HOME", "")
        folder = f"{xdg if xdg.startswith('/') else os.path.expanduser('~/.cache')}/libreplk_cpu"
    try:
        return Path(folder, "tune.jsonl").read_bytes()
    except OSError:
        return b""


def node_settings(job, cpus=None):
    """The settings of this node's kind; measured and tuned now if this is the first node of it. The process has the kind's tune
    cache afterwards. Call it before this process loads a network: what was loaded before keeps the user's cache."""
    if cpus is not None and not 1 <= cpus <= 4096:
        raise InvalidArgument(f"cpus is {cpus}; allowed: 1 to 4096")
    here = machine(cpus or replk.default_threads())
    kind = kind_of(here)
    folder = job.folder / "tuning"
    folder.mkdir(exist_ok=True)
    settings, cache = folder / f"{kind}.json", folder / f"{kind}.jsonl"
    # The system lets go of it when its process dies. Others of the kind wait meanwhile.
    with open(folder / f"{kind}.lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not settings.exists():
            _find_out(job, here, kind, settings, cache)
        found = json.loads(settings.read_bytes())
        content = cache.read_bytes()
    if hashlib.sha256(content).hexdigest() != found["cache_sha256"]:
        raise BadFile(f"{cache}: its hash is not that of {settings.name}: it was changed after the job began")
    ProcessCache.adopt(content, job)
    replk.set_tuning("cached")
    return Settings(**{name: found[name] for name in Settings.__dataclass_fields__})


def _find_out(job, here, kind, settings, cache):
    from .measure import choose  # which loads networks

    ProcessCache.adopt(users_cache(), job)
    chosen = choose(job, here["cpus"])
    content = Path(ProcessCache.path()).read_bytes()
    found = Settings(kind=kind, readers=max(2, here["cpus"]), cache_sha256=hashlib.sha256(content).hexdigest(), **chosen)
    write_whole(cache, content)
    write_whole(settings, json.dumps(
        {**asdict(found), "machine": here, "host": socket.gethostname(), "finished": now()}, indent=1
    ).encode())
