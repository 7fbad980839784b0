"""Uploads in the broker to annotations in the broker: our worker, a bare loop, quixstreams, bytewax and Faust.

Every measurement has a fresh broker with all uploads in it, and one contestant in a process of its own. This
process only asks for the end offsets of the annotations: the rate is between two such answers, after a warm-up, and the
CPU time of contestant and broker is taken at the same two moments. The contestants take turns, so that what else the
machine does falls on all of them; figures are medians over the turns. `ours_with_store` counts what the store role has
committed, with annotate and store beside each other. One line of JSON in uploads a second, and a table.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory

import numpy as np
from confluent_kafka import TopicPartition
from rich.console import Console
from rich.table import Table

from tests.benchmarks.brokers import add_broker_option, broker
from tests.benchmarks.uploads import sentences, upload_messages
from tests.benchmarks.usage import cpu_s
from tests.processes import Processes
from topology.kafka import Committed, make_consumer, partitions_of
from topology.producer import ConfirmedProducer
from topology.settings import Settings, with_changes
from topology.topics import ANNOTATIONS, VIDEO_UPLOADS, ensure_topics

CONTESTANTS = ("ours", "bare", "quixstreams", "bytewax", "faust")
WITH_STORE = "ours_with_store"
_FILL = 10_000
_TICK_S = 0.05
_START_S = 60.0
_WARM_S = 10.0  # of warm-up are enough for whoever is slow
# The embedded broker's end offset is that where its last batch begins: the last few hundred may never be counted.
_NEARLY, _DONE_S = 0.9, 2.0


@dataclass(frozen=True)
class Measured:
    """Uploads a second, and CPU microseconds per upload of the contestant's processes and of the broker."""

    rate: float
    own_us: float
    broker_us: float


@dataclass(frozen=True)
class _Sample:
    at_s: float
    done: int
    own_s: float
    broker_s: float


class Annotated:
    """How many annotations lie in the broker."""

    def __init__(self, settings: Settings) -> None:
        topic = settings.topic(ANNOTATIONS)
        self._consumer = make_consumer(settings, "bench")
        self._partitions = [TopicPartition(topic, p) for p in partitions_of(self._consumer, settings, topic)]

    def count(self) -> int:
        return sum(self._consumer.get_watermark_offsets(one, timeout=10)[1] for one in self._partitions)

    def close(self) -> None:
        self._consumer.close()


def fill(settings: Settings, texts: Sequence[str], count: int) -> None:
    """Put so many uploads into the broker."""
    producer = ConfirmedProducer(settings)
    batch = []
    for message in upload_messages(settings.topic(VIDEO_UPLOADS), texts, count):
        batch.append(message)
        if len(batch) == _FILL:
            producer.produce_now(batch)
            batch = []
    producer.produce_now(batch)
    producer.close()


def measure(name: str, texts: Sequence[str], uploads: int, warm_up: int, seconds: float, broker_kind: str) -> Measured:
    """Measure one contestant from `warm_up` uploads on, to the last or for so many seconds."""
    processes = Processes()
    with TemporaryDirectory() as folder, broker(broker_kind) as running_broker:
        settings = with_changes(Settings(), broker=running_broker.url, store_uri=f"{folder}/lancedb")
        ensure_topics(settings)
        fill(settings, texts, uploads)
        progress = Committed(settings, "store", ANNOTATIONS) if name == WITH_STORE else Annotated(settings)
        log = Path(folder) / "log"
        kind, _, times = name.partition(" x")
        started = [("tests.benchmarks.contestants", kind)] * int(times or 1)
        if name == WITH_STORE:
            started = [("topology.cli", "worker", role) for role in ("annotate", "store")]
        try:
            running = [processes.start(settings, "-m", *arguments, log=log) for arguments in started]
            samples = _watch(progress.count, running, running_broker.pid, uploads, warm_up, seconds)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}; its log ends:\n{log.read_text()[-2_000:]}") from error
        finally:
            progress.close()
            processes.stop_all()
    first, last = samples[0], samples[-1]
    done = last.done - first.done
    return Measured(
        done / (last.at_s - first.at_s),
        (last.own_s - first.own_s) / done * 1e6,
        (last.broker_s - first.broker_s) / done * 1e6,
    )


def _watch(
    count: Callable[[], int],
    running: Sequence[Popen[bytes]],
    broker_pid: int,
    uploads: int,
    warm_up: int,
    seconds: float,
) -> Sequence[_Sample]:
    """Return a sample for every change of the count after the warm-up."""
    samples: list[_Sample] = []
    changed, last, first_at = time.monotonic(), 0, None
    while last < uploads:
        time.sleep(_TICK_S)
        done, now = count(), time.monotonic()
        first_at = now if done and first_at is None else first_at
        warm = done >= warm_up or (first_at is not None and now - first_at > _WARM_S)
        if done > last and warm:
            samples.append(_Sample(now, done, sum(cpu_s(one.pid) for one in running), cpu_s(broker_pid)))
        changed = now if done > last else changed
        last = done
        if any(one.poll() is not None for one in running):
            raise AssertionError("it ended")
        if (samples and now - samples[0].at_s > seconds) or (last > uploads * _NEARLY and now - changed > _DONE_S):
            break
        if now - changed > _START_S:
            raise AssertionError(f"{done} of {uploads} uploads annotated, and no more within {_START_S:.0f} s")
    if len(samples) < 3:
        raise AssertionError(f"{len(samples)} looks at {uploads} uploads are too few; use more uploads")
    return samples


def show(found: dict[str, list[Measured]], title: str) -> None:
    """Print a table of medians and ratios; the spread is that of the rates over the turns."""
    table = Table(title=title)
    for heading in (
        "contestant",
        "uploads/s",
        "lowest-highest",
        "of bare",
        "of quixstreams",
        "CPU us/upload",
        "broker",
    ):
        table.add_column(heading, justify="left" if heading == "contestant" else "right")
    for name, turns in found.items():
        rates = [turn.rate for turn in turns]
        table.add_row(
            name,
            f"{np.median(rates):,.0f}",
            f"{min(rates):,.0f}-{max(rates):,.0f}",
            _ratio(found, name, "bare"),
            _ratio(found, name, "quixstreams"),
            f"{np.median([turn.own_us for turn in turns]):.0f}",
            f"{np.median([turn.broker_us for turn in turns]):.0f}",
        )
    Console(stderr=True, width=120).print(table)


def _ratio(found: dict[str, list[Measured]], name: str, other: str) -> str:
    """Return the median over the turns of the ratio within a turn."""
    if other not in found:
        return ""
    return f"{np.median([a.rate / b.rate for a, b in zip(found[name], found[other], strict=True)]):.2f}"


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--uploads", type=int, default=100_000)
    parser.add_argument("--warm-up", type=int, default=20_000, help="uploads that don't count")
    parser.add_argument("--seconds", type=float, default=15.0, help="of one measurement, at most")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--real", type=Path, help="folder of goemotions_train.tsv.gz; without: the demo's texts")
    parser.add_argument("--only", nargs="+", default=[*CONTESTANTS, WITH_STORE], help="'ours x2' are two workers")
    add_broker_option(parser)
    options = parser.parse_args()
    source, texts = sentences(options.real)
    found: dict[str, list[Measured]] = {name: [] for name in options.only}
    for _ in range(options.repeat):
        for name in options.only:
            warm_up = min(options.warm_up, options.uploads // 5)
            turn = measure(name, texts, options.uploads, warm_up, options.seconds, options.broker)
            found[name].append(turn)
            print(
                f"{name}: {turn.rate:,.0f} uploads/s, CPU {turn.own_us:.0f} + broker {turn.broker_us:.0f} us",
                file=sys.stderr,
            )
    machine = f"{options.broker}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    show(found, f"annotate, {options.uploads:,} uploads ({source}), {machine}")
    print(json.dumps({name: round(float(np.median([turn.rate for turn in turns]))) for name, turns in found.items()}))


if __name__ == "__main__":
    main()
