"""What a volume of uploads and watches needs, from what one unit of each cost where it was measured.

Workers and cores follow from CPU time per record at the day's peak. How many shards the store needs follows from a
simulation: a shard takes up to a run of annotations at a time, and a merge costs a fixed time, a time per row, and a
little per row that lies in the table already, for the index of its keys. The smallest number of shards is taken with
which an annotation waits for less than the target at the 99th percentile. One line of JSON, and a table.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

_DAY_S = 86_400
_RUN = 5_000  # max_store_run
_SIMULATED_S = 120.0


@dataclass(frozen=True)
class Costs:
    """Of one core of the machine of docs/benchmarks; every one is an option of this program."""

    annotate_us: float = 50.0  # CPU of the annotate worker per upload, nano student
    broker_us: float = 8.0  # of the embedded broker per upload, annotations read once
    merge_ms: float = 55.0  # of a merge, half of it in place of recent rows
    row_us: float = 38.0  # per annotation: fetch, decode, table, its part of a merge
    stored_ms: float = 2.5  # per merge, for each million rows in the shard
    compaction: float = 1.2  # on top of merges: one compaction in 20 of them, the index brought up to date in 5
    watch_ms: float = 2.6  # CPU of a session worker per watch
    snapshot_gb: float = 0.4  # of a session worker's memory, per million videos
    table_gb: float = 0.6  # on disk, per million rows
    annotation_bytes: float = 2_100.0  # before compression, some 700 after
    gpu_texts: float = 137_000.0  # a second and GPU: half of what an H200 could do on paper, MiniLM, 128 tokens


def shard_latency(costs: Costs, rate: float, rows_m: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return p99 seconds from annotation to visible row of one shard, and the share of a core that merging takes.

    Infinity if it does not keep up. Arrivals are Poisson.
    """
    now, busy, free = 0.0, 0.0, 0.0
    arrivals = np.cumsum(rng.exponential(1 / rate, int(rate * _SIMULATED_S) + 1))
    waits: list[np.ndarray[Any, np.dtype[np.float64]]] = []
    taken = 0
    while taken < len(arrivals):
        now = max(free, float(arrivals[taken]))
        end = min(taken + _RUN, int(np.searchsorted(arrivals, now, "right")))
        own = (costs.merge_ms + costs.stored_ms * rows_m) * costs.compaction / 1e3
        free = now + own + costs.row_us * (end - taken) / 1e6
        busy += free - now
        waits.append(free - arrivals[taken:end])
        taken = end
        if free > 2 * _SIMULATED_S:
            return math.inf, 1.0
    return float(np.quantile(np.concatenate(waits), 0.99)), busy / free


@dataclass(frozen=True)
class Needs:
    """What a volume needs at its peak."""

    uploads_per_day: float
    peak_per_s: float
    annotate_workers: int
    broker_cores: float
    broker_mb_per_s: float
    rows_m: float
    shards: int | None
    store_cores: float | None
    store_p99_s: float | None
    table_gb: float
    partitions: int
    gpus: float


def needs(costs: Costs, uploads: float, days: float, peak: float, use: float, target_s: float) -> Needs:
    """Work out `uploads` a day, of which `days` stay in the store, at `peak` times the mean; cores filled to `use`."""
    rate = uploads / _DAY_S * peak
    rows_m = uploads * days / 1e6
    workers = math.ceil(rate * costs.annotate_us / 1e6 / use)
    found, shards = (math.inf, 1.0), 1
    while shards < 2**16:
        found = shard_latency(costs, rate / shards, rows_m / shards, np.random.default_rng(1))
        if found[0] <= target_s:
            break
        shards *= 2
    fits = found[0] <= target_s
    partitions = 2 ** math.ceil(math.log2(max(4, 2 * workers, shards if fits else 1)))
    return Needs(
        uploads_per_day=uploads,
        peak_per_s=round(rate),
        annotate_workers=workers,
        broker_cores=round(rate * costs.broker_us / 1e6 / use, 1),
        broker_mb_per_s=round(rate * costs.annotation_bytes / 1e6, 1),
        rows_m=round(rows_m, 1),
        shards=shards if fits else None,
        store_cores=round(shards * found[1], 1) if fits else None,
        store_p99_s=round(found[0], 2) if fits else None,
        table_gb=round(rows_m * costs.table_gb),
        partitions=partitions,
        gpus=round(rate / costs.gpu_texts / use, 2),
    )


def main() -> None:
    """Work out the volumes that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--uploads", type=float, nargs="+", default=[1e7, 1e8, 1e9], help="a day")
    parser.add_argument("--days", type=float, nargs="+", default=[1, 7, 90], help="that videos stay in the store")
    parser.add_argument("--peak", type=float, default=2.5, help="times the mean rate")
    parser.add_argument("--use", type=float, default=0.6, help="share of a core that may be busy at the peak")
    parser.add_argument("--target", type=float, default=0.8, help="seconds, p99 from annotation to row")
    parser.add_argument("--watches", type=float, default=1e5, help="a second")
    for field in fields(Costs):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=float, default=field.default)
    options = parser.parse_args()
    costs = Costs(**{field.name: getattr(options, field.name) for field in fields(Costs)})
    found = [
        needs(costs, uploads, days, options.peak, options.use, options.target)
        for uploads in options.uploads
        for days in options.days
    ]
    table = Table(title=f"at {options.peak:g} times the mean rate, cores {options.use:.0%} busy")
    for column in fields(Needs):
        table.add_column(column.name.replace("_", " "), justify="right")
    for one in found:
        table.add_row(*(_shown(getattr(one, column.name)) for column in fields(Needs)))
    Console(stderr=True, width=160).print(table)
    cores = options.watches * costs.watch_ms / 1e3 / options.use
    print(
        f"{options.watches:,.0f} watches/s: {cores:,.0f} cores of session workers, each with {costs.snapshot_gb:g} GB"
        " per million videos of its catalogue",
        file=sys.stderr,
    )
    made = [{column.name: getattr(one, column.name) for column in fields(Needs)} for one in found]
    print(json.dumps({"uploads": made, "watches_per_s": options.watches, "session_cores": round(cores)}))


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:g}"


if __name__ == "__main__":
    main()
