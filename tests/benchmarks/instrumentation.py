"""What the metrics cost: the same runs through annotate and store, counted and not counted in turn; one line of JSON.

    python -m tests.benchmarks.instrumentation [--rounds 40]

"Not counted" means that every metric does nothing and what is computed for metrics alone is left out. The two take
turns in pairs of runs, in one process, and CPU time is compared, so that what else the machine does touches both alike.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from random import Random
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

import streams.annotate
from models.bundle import default_bundle
from models.student import Student
from monitoring.item_histogram import ItemHistogram
from monitoring.series import Counter, Gauge, Histogram
from schemas.attributes import load_catalogue
from schemas.wire import encode
from streams.annotate import AnnotateStage
from streams.attribute_store import AttributeStore
from streams.attribute_table import AttributeTable, Size
from streams.clock import now_ms
from streams.database import Database
from streams.delivery import Delivery
from streams.record import Message, Record
from streams.stage import Stage
from streams.store import StoreStage
from topology.demo.content import load_uploads

_WARM = 2  # pairs


class _Nothing:
    def inc(self, amount: float = 1) -> None: ...
    def observe(self, amount: float) -> None: ...
    def set(self, value: float) -> None: ...


def _labels(self: object, *values: object) -> _Nothing:
    return _Nothing()


@contextmanager
def uncounted() -> Iterator[None]:
    """Let every metric do nothing."""
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731 - a def would not match the type
    with ExitStack() as stack:
        for owner, name in (
            (Counter, "inc"), (Gauge, "set"), (Histogram, "observe"), (ItemHistogram, "observe_all"),
            (streams.annotate, "count_decisions"),
        ):  # fmt: skip
            stack.enter_context(patch.object(owner, name, nothing))
        for owner in (Counter, Gauge, Histogram):
            stack.enter_context(patch.object(owner, "labels", _labels))
        stack.enter_context(patch.object(AttributeTable, "size", lambda _: Size(0, 0, 0)))
        yield


async def compared(stage: Stage[Any], runs: Sequence[Sequence[Record]]) -> dict[str, float]:
    """Return the CPU seconds of the same number of runs, counted and not counted, and their ratio."""

    async def acknowledged(_: Sequence[Message]) -> None: ...

    delivery = Delivery(stage, acknowledged)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    order, rng = [True, False], Random(0)
    for number, run in enumerate(runs):
        if number % 2 == 0:
            rng.shuffle(order)  # what happens every so many runs, such as a compaction, falls to both
        with nullcontext() if order[number % 2] else uncounted():
            started = time.process_time()
            await delivery.deliver(run)
            seconds[order[number % 2]].append(time.process_time() - started)
    pairs = list(zip(seconds[True], seconds[False], strict=True))[_WARM:]
    run_s = statistics.median(bare for _, bare in pairs)
    cost_s = statistics.median(counted - bare for counted, bare in pairs)
    return {
        "run_ms": round(1000 * run_s, 3),
        "cost_ms": round(1000 * cost_s, 3),
        "cost_share": round(cost_s / run_s, 4),
    }


def uploads(size: int, runs: int) -> list[list[Record]]:
    """Runs of the same videos, in each newer than in the one before."""
    demo, now = [one.upload for one in load_uploads(now_ms())[:size]], now_ms()
    return [
        [
            Record("video-uploads", n % 4, run * size + n, now, upload.video_id.encode(), encode(newer))
            for n, upload in enumerate(demo)
            for newer in [replace(upload, uploaded_at_ms=upload.uploaded_at_ms + run)]
        ]
        for run in range(runs)
    ]


async def annotations(stage: AnnotateStage, runs: Sequence[Sequence[Record]]) -> list[list[Record]]:
    """Return what annotate makes of runs."""
    made = [(await stage.run(run)).messages for run in runs]
    return [
        [Record(m.topic, 0, n, now_ms(), m.key, m.value) for n, m in enumerate(messages) if m.topic == "annotations"]
        for messages in made
    ]


async def measure(rounds: int) -> dict[str, Any]:
    """Measure both stages at small and large runs."""
    catalogue = load_catalogue()
    student = Student.load(default_bundle(), catalogue)
    annotate = AnnotateStage(student, annotations="annotations", review_requests="review", dead_letters="dead")
    found: dict[str, Any] = {}
    for size in (20, 500):
        found[f"annotate_{size}"] = await compared(annotate, uploads(size, 2 * (rounds + _WARM)))
    with tempfile.TemporaryDirectory() as folder:
        table = AttributeStore.open(Database(folder), catalogue, student.dim)
        store = StoreStage(table, "dead")
        found["store_500"] = await compared(store, await annotations(annotate, uploads(500, 2 * (rounds + _WARM))))
        await store.close()
    await annotate.close()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    print(json.dumps(asyncio.run(measure(parser.parse_args().rounds))))
