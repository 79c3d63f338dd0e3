"""Many images on one machine or many: a job is cut into shards, each of which becomes one Parquet file, whatever dies meanwhile.

    python -m replk.batch run photos/ --model replknet-31b --weights 31b.safetensors --precision int8 --want top5 --out job/

No engine is needed; ``replk.batch.ray`` and ``replk.batch.spark`` run the same job on a cluster. pyarrow is needed besides
NumPy. docs/batch.md is the guide.
"""
try:
    import pyarrow  # noqa: F401
except ImportError:
    raise ImportError("replk.batch: the package pyarrow is needed (pip install pyarrow)") from None

from .job import Job  # noqa: E402
from .local import run

__all__ = ["Job", "run"]
