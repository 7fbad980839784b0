"""Shards of the attribute store: which video lies in which, and what their tables are called.

The hash is CRC-32, as in librdkafka's partitioner, which our producer leaves in place. So where the number of shards
divides that of the annotations' partitions, all videos of a partition lie in one shard: partition modulo shards.
"""

import re
from zlib import crc32

TABLE = "attributes"
_SHARD_TABLE = re.compile(rf"{TABLE}-(\d+)-of-(\d+)")


def shard_of(video_id: str, shards: int) -> int:
    """Return the shard of a video, 0 to `shards` - 1; it depends on nothing else."""
    return crc32(video_id.encode()) % shards


def table_names(shards: int) -> tuple[str, ...]:
    """Return the name of each shard's table."""
    return (TABLE,) if shards == 1 else tuple(f"{TABLE}-{shard}-of-{shards}" for shard in range(shards))


def shards_of_table(name: str) -> int | None:
    """Return how many shards there are where a table has this name; None for a table of something else."""
    if name == TABLE:
        return 1
    match = _SHARD_TABLE.fullmatch(name)
    return int(match[2]) if match else None
