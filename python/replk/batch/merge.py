"""The parts of a job as one file."""
import os
import uuid

import pyarrow.parquet as pq

from ..errors import InvalidArgument
from .part import schema


def merge(job, out):
    """Writes all rows in the order of the inputs, piece by piece; returns their number. Raises InvalidArgument for a job
    that is not finished."""
    missing = job.missing()
    if missing:
        raise InvalidArgument(
            f"{job.folder}: {len(missing)} of {job.shards} shards are missing, the first is {missing[0]}; run the job again first"
        )
    out = os.fspath(out)
    temporary, count = f"{out}.{uuid.uuid4().hex}.tmp", 0
    try:
        with pq.ParquetWriter(temporary, schema(job.wanted), use_dictionary=False, write_statistics=["index"]) as writer:
            kept = ("replk.shape.", "replk.labels", "replk.job")
            writer.add_key_value_metadata({key: value for key, value in job.finished(0).items() if key.startswith(kept)})
            for shard in range(job.shards):
                with pq.ParquetFile(job.part(shard), pre_buffer=False) as part:
                    for group in range(part.num_row_groups):
                        table = part.read_row_group(group, use_threads=False)
                        writer.write_table(table.cast(schema(job.wanted)))
                        count += len(table)
        os.replace(temporary, out)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return count
