"""How many rows a second the store takes: one shard and one process, two of each, and two processes on one shard.

`python -m tests.benchmarks.store_shards --stored 100000 --rows 40000` fills a store, then upserts rows in runs of
1,000 (half of them updates) from one or two processes, as store workers do, compactions included. Prints one JSON line.
"""

import argparse
import json
import multiprocessing as mp
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, suppress
from itertools import count
from multiprocessing.synchronize import Barrier
from tempfile import TemporaryDirectory

import numpy as np

from schemas.errors import StoreUnavailable
from schemas.table import to_table
from streams.attribute_store import AttributeStore
from streams.database import Database
from streams.shards import shard_of
from tests.benchmarks.stored import AT_MS, CATALOGUE, DIM, annotation

RUN = 1_000
COMPACT_EVERY = 20
_barrier: Barrier


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stored", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for _ in range(options.repeat):  # one after the other, so that what else the machine does falls on all
        for shards, workers in ((1, 1), (2, 1), (2, 2), (1, 2)):
            name = f"shards_{shards}_workers_{workers}"
            rate, cpu_ms = measure(shards, workers, options.stored, options.rows)
            found.setdefault(f"{name}_rows_per_s", []).append(rate)
            found.setdefault(f"{name}_cpu_ms_per_1000_rows", []).append(cpu_ms)
            print(f"{name}: {rate:.0f} rows/s, {cpu_ms:.1f} CPU-ms per 1,000 rows", file=sys.stderr)
    print(
        json.dumps(
            {"stored": options.stored, "rows": options.rows, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
            | {name: round(float(np.median(values)), 1) for name, values in found.items()}
        )
    )


def measure(shards: int, workers: int, stored: int, rows: int) -> tuple[float, float]:
    """Return rows per second and CPU milliseconds per 1,000 rows of all workers; CPU depends less on what else runs."""
    with TemporaryDirectory(prefix="store-shards-") as folder:
        store = _open(folder, shards)
        for start in range(0, stored, 50_000):
            ids = [f"v{n}" for n in range(start, min(start + 50_000, stored))]
            store.upsert(to_table([annotation(i, AT_MS) for i in ids], store.catalogue, store.dim, AT_MS))
        context = mp.get_context("spawn")
        barrier = context.Barrier(workers)
        with ProcessPoolExecutor(workers, context, _share, (barrier,)) as pool:
            spans = list(
                pool.map(_work, [(folder, shards, workers, own, stored, rows // workers) for own in range(workers)])
            )
        seconds = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
        found = _open(folder, shards).rows()
        if found.rows != found.videos:
            raise AssertionError(f"{found.rows - found.videos} rows too many")
        return rows / seconds, sum(cpu_s for _, _, cpu_s in spans) / rows * 1e6


def _share(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _work(job: tuple[str, int, int, int, int, int]) -> tuple[float, float, float]:
    """Write runs of the worker's own share of videos; return when it began and ended, and CPU seconds."""
    folder, shards, workers, own, stored, rows = job
    store = _open(folder, shards)
    runs = [
        to_table([annotation(i, AT_MS + 1) for i in ids], store.catalogue, store.dim, AT_MS)
        for ids in _runs(own, workers, stored, rows)
    ]
    _barrier.wait()
    start, cpu = time.time(), time.process_time()
    for number, run in enumerate(runs, 1):
        store.upsert(run)
        if number % COMPACT_EVERY == 0:
            for table in store.tables.values():
                # Each compacts all shards, so of several workers one may find that another was first; alone, none may.
                with suppress(StoreUnavailable) if workers > 1 else nullcontext():
                    table.compact()
    return start, time.time(), time.process_time() - cpu


def _runs(own: int, workers: int, stored: int, rows: int) -> Iterator[list[str]]:
    # With as many shards as workers these are the videos of its shard; on one shard, just no other worker's.
    old, new = (
        (video_id for n in count(first) if shard_of(video_id := f"v{n}", workers) == own) for first in (0, stored)
    )
    for _ in range(rows // RUN):
        yield [next(source) for source in (old, new) for _ in range(RUN // 2)]


def _open(folder: str, shards: int) -> AttributeStore:
    return AttributeStore.open(Database(folder), CATALOGUE, DIM, shards)


if __name__ == "__main__":
    main()
