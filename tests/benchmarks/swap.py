"""What a hot swap costs those who are served: the latency of annotate runs before, during and after.

`python -m tests.benchmarks.swap` sends small runs at a steady rate through the real stage, in an open loop: a run's
latency counts from when it was due, so that a stall is felt by all that queue behind it. Meanwhile two versions of the
shipped student are promoted in turn. Prints one JSON line; exits 1 if a run failed or mixed versions.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from models.registry import Registry
from models.student import Student
from schemas.annotation import Annotation
from schemas.attributes import load_catalogue
from schemas.wire import Decoder, encode
from streams.annotate import AnnotateStage
from streams.clock import now_ms
from streams.record import Record
from streams.students import LiveStudent, RegistryFollower
from tests.fakes.bundles import registry
from topology.console import progress
from topology.demo.content import load_uploads

PHASES = ("before", "during", "after")
WARM_UP_S = 3.0


@dataclass
class Run:
    phase: str
    seconds: float
    versions: set[int]


@dataclass
class Load:
    """Open-loop load: one run each 1 / rate seconds, one at a time, as a worker's agent takes them."""

    stage: AnnotateStage
    records: Sequence[Record]
    size: int
    rate: float
    phase: str = "warming up"
    failed: int = 0
    runs: list[Run] = field(default_factory=list[Run])
    stopped: bool = False

    async def go(self) -> None:
        decoder = Decoder(Annotation)
        made: list[tuple[str, float, list[bytes]]] = []
        due = time.perf_counter()
        number = 0
        while not self.stopped:
            due += 1 / self.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            phase, at = self.phase, number * self.size % (len(self.records) - self.size)
            number += 1
            try:
                effects = await self.stage.run(self.records[at : at + self.size])
            except Exception as error:
                print(f"failed: {type(error).__name__}: {error}", file=sys.stderr)
                self.failed += 1
                continue
            values = [m.value for m in effects.messages if m.topic == "annotations" and m.value is not None]
            if len(values) != self.size:
                self.failed += 1
            made.append((phase, time.perf_counter() - due, values))
        for phase, seconds, values in made:
            annotations = [decoder.decode(value) for value in values]
            self.runs.append(Run(phase, seconds, {a.student.version for a in annotations if a.student}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=50.0, help="runs a second")
    parser.add_argument("--size", type=int, default=20, help="uploads in a run")
    parser.add_argument("--seconds", type=float, default=15.0, help="of the phases before and after")
    parser.add_argument("--swaps", type=int, default=10)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = asyncio.run(bench(options, registry(Path(folder), 2)))
    print(json.dumps(found))
    sys.exit(1 if found["failed"] or found["mixed_batches"] else 0)


async def bench(options: argparse.Namespace, students: Registry) -> dict[str, float]:
    catalogue, now = load_catalogue(), now_ms()
    students.promote(1)
    live = LiveStudent(Student.load(students.path(1), catalogue))
    stage = AnnotateStage(live, annotations="annotations", review_requests="reviews", dead_letters="dead")
    follower = RegistryFollower(live, students, lambda path: Student.load(path, catalogue), shadow_share=0.0)
    records = [
        Record("video-uploads", 0, i, now, one.upload.video_id.encode(), encode(one.upload))
        for i, one in enumerate(load_uploads(now))
    ]
    load = Load(stage, records, options.size, options.rate)
    going = asyncio.create_task(load.go())
    follower.start()
    with progress() as bars:
        task = bars.add_task("swaps", total=options.swaps)
        await asyncio.sleep(WARM_UP_S)
        load.phase = "before"
        await asyncio.sleep(options.seconds)
        load.phase = "during"
        for swap in range(options.swaps):
            students.promote(2 - swap % 2)
            while live.current.version.version != 2 - swap % 2:
                await asyncio.sleep(0.01)
            bars.advance(task)
        load.phase = "after"
        await asyncio.sleep(options.seconds)
    load.stopped = True
    await going
    await follower.close()
    await stage.close()
    order = [min(run.versions) for run in load.runs]
    changes = sum(one != other for one, other in zip(order, order[1:], strict=False))
    print(
        f"{len(load.runs)} runs of {options.size}, {changes} changes of version between runs; p50"
        f" {', '.join(f'{quantile(load.runs, phase, 0.5)} ms {phase}' for phase in PHASES)}; longest"
        f" {quantile(load.runs, 'during', 1.0)} ms during; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()}"
        " cores",
        file=sys.stderr,
    )
    return {
        **{f"p99_{phase}_ms": quantile(load.runs, phase, 0.99) for phase in PHASES},
        "failed": load.failed,
        "mixed_batches": sum(len(run.versions) != 1 for run in load.runs),
    }


def quantile(runs: Sequence[Run], phase: str, q: float) -> float:
    return round(1000 * float(np.quantile([run.seconds for run in runs if run.phase == phase], q)), 2)


if __name__ == "__main__":
    main()
