"""What one run of annotations costs the store, by how much the table holds and how many of them replace others.

`python -m tests.benchmarks.store_merge --stored 0 1000000` fills a table, then writes runs as a store worker does: of
new videos only; half of them of videos among the last 20,000, as an LLM's final annotations are; half of them of any
video. CPU time of the process is taken, which depends less on what else the machine does. One JSON line per kind of
run: median of a write, and the mean with its share of compactions and of the upkeep of indexes.
"""

import argparse
import asyncio
import json
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from tempfile import TemporaryDirectory

import lancedb
import numpy as np

from schemas.annotation import Annotation
from schemas.table import to_table
from streams.attribute_table import AttributeTable
from streams.database import Database
from streams.shard_writer import ShardWriter
from tests.benchmarks.stored import AT_MS, CATALOGUE, DIM, annotation

COMPACT_EVERY = 20
RECENT = 20_000


@dataclass(frozen=True)
class Kind:
    """`size` annotations, half of them of videos `among` so many of the last ones; None if all are new."""

    name: str
    size: int
    among: float | None


KINDS = (
    Kind("new", 1_000, None),
    Kind("new", 5_000, None),
    Kind("half recent", 1_000, RECENT),
    Kind("half recent", 5_000, RECENT),
    Kind("half any", 1_000, np.inf),
    Kind("half any", 5_000, np.inf),
)


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stored", type=int, nargs="+", default=[0, 1_000_000, 2_000_000])
    parser.add_argument("--runs", type=int, default=60, help="of each kind")
    options = parser.parse_args()
    for stored in options.stored:
        asyncio.run(measure(stored, options.runs))


async def measure(stored: int, runs: int) -> None:
    """Fill a table with `stored` videos and print what the kinds of runs cost, one after the other."""
    with TemporaryDirectory(prefix="store-merge-") as folder:
        table = AttributeTable.open(Database(folder), CATALOGUE, DIM)
        raw = lancedb.connect(folder).open_table(table.name)
        for start in range(0, stored, 100_000):
            raw.add(to_table(_annotations(range(start, min(stored, start + 100_000)), 0), CATALOGUE, DIM, AT_MS))
        table.compact()
        videos, rng = stored, np.random.default_rng(0)
        for number, kind in enumerate(KINDS):
            writer, spent = ShardWriter(table, COMPACT_EVERY), list[float]()
            begun = _cpu_ms()
            made = 0.0
            for run in range(runs):
                before = _cpu_ms()
                new = kind.size if kind.among is None else kind.size // 2
                since = videos - min(videos, int(min(kind.among or 0, videos)))
                old = rng.integers(since, videos, kind.size - new) if videos else []
                annotations = _annotations([*range(videos, videos + new), *map(int, old)], 1 + number * runs + run)
                videos += new
                await asyncio.sleep(0)
                start = _cpu_ms()
                made += start - before
                await writer.write(annotations)
                spent.append(_cpu_ms() - start)
            await writer.close()
            print(
                json.dumps(
                    {
                        "stored": stored,
                        "run": kind.size,
                        "kind": kind.name,
                        "median_ms": round(float(np.median(spent)), 1),
                        "mean_with_upkeep_ms": round((_cpu_ms() - begun - made) / runs, 1),
                        "fragments": table.size().fragments,
                        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
                        "load": round(os.getloadavg()[0], 1),
                    }
                ),
                flush=True,
            )
        counts = table.rows()
        if counts.rows != counts.videos or counts.videos != videos:
            raise AssertionError(f"{counts} of {videos} videos")


def _cpu_ms() -> float:
    return time.process_time() * 1e3


def _annotations(numbers: Sequence[int], later: int) -> list[Annotation]:
    return [annotation(blake2b(str(number).encode(), digest_size=9).hexdigest(), AT_MS + later) for number in numbers]


if __name__ == "__main__":
    main()
