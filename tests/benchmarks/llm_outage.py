"""The LLM is gone for two minutes while uploads come in: does the student's path notice?

`python -m tests.benchmarks.llm_outage` runs two pipelines on one embedded broker, an annotate and a review worker each,
and sends both uploads at the same constant rate. The fake Gemini of one answers, then fails every request with 503,
then answers again; when the reviews have caught up, it is watched for as long as before. The other's LLM stays: what
else the machine does slows both. Prints one JSON line: how many uploads a second were annotated while the LLM was up
and while it was down, the p99 from the broker to the first annotation (median of ten seconds each) in both pipelines,
and how long the reviews took to catch up. `ratio` is throughput during the outage to that around it; `p99_ratio` is
the p99 of the pipeline that had no outage to that of the one that had, at the same time: above 1 it is the better one.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
from confluent_kafka import TopicPartition

from schemas.annotation import Annotation
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.record import Message
from tests.fakes.gemini_process import GeminiProcess, gemini_process
from tests.faults.workers import Workers
from topology.broker import embedded_broker
from topology.demo.content import load_uploads
from topology.kafka import Committed, make_consumer, partitions_of, read_topic
from topology.producer import ConfirmedProducer
from topology.replay import send
from topology.settings import Settings, with_changes
from topology.topics import ANNOTATIONS, REVIEW_REQUESTS, VIDEO_UPLOADS, ensure_topics

_WINDOW_MS = 10_000
_Waits = list[tuple[int, int]]
"""When each upload was received and how long its first annotation took from there, epoch ms and ms."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=30.0, help="uploads a second, of each pipeline")
    parser.add_argument("--up", type=float, default=60.0, help="seconds before the outage, and again when it is over")
    parser.add_argument("--down", type=float, default=120.0, help="seconds of the outage")
    options = parser.parse_args()
    print(json.dumps(outage(options.rate, options.up, options.down)))


def outage(rate: float, up_s: float, down_s: float) -> dict[str, float]:
    with ExitStack() as stack:
        broker = stack.enter_context(embedded_broker())
        struck, spared = (stack.enter_context(_pipeline(broker, name, rate)) for name in ("struck", "spared"))
        for one in (struck, spared):
            _wait_for(lambda one=one: one.annotated.count() > 3 * rate and one.reviewed.count() > 0, 120, "all are up")
        first = _watch(struck, up_s)
        reviewed_before = struck.reviewed.count()
        struck.fake.fail(overloaded=1.0)
        down = _watch(struck, down_s)
        struck.fake.fail()
        back, reviewed_after, missing = time.monotonic(), struck.reviewed.count(), struck.missing()
        _wait_for(lambda: struck.missing() < rate, 600, "the reviews catch up")
        drained = time.monotonic() - back
        last = _watch(struck, up_s)
        waited = [_waited(one.settings) for one in (struck, spared)]
    print(f"{reviewed_after - reviewed_before} reviews were finished during the outage", file=sys.stderr)
    up_per_s = (first.per_s + last.per_s) / 2
    (up, up_spared), (without, without_spared) = (
        [statistics.median(_p99s(waits, phases)) for waits in waited] for phases in ([first, last], [down])
    )
    return {
        "rate": rate,
        "up_per_s": round(up_per_s, 1),
        "down_per_s": round(down.per_s, 1),
        "ratio": round(down.per_s / up_per_s, 3),
        "p99_up_ms": up,
        "p99_down_ms": without,
        "p99_up_spared_ms": up_spared,
        "p99_down_spared_ms": without_spared,
        "p99_ratio": round(without_spared / without, 3),
        "review_lag": missing,
        "drain_s": round(drained, 1),
    }


@dataclass(frozen=True)
class _Pipeline:
    settings: Settings
    fake: GeminiProcess
    annotated: Committed
    reviewed: Committed
    requested: "_Ends"

    def missing(self) -> int:
        return self.requested.count() - self.reviewed.count()


@contextmanager
def _pipeline(broker: str, name: str, rate: float) -> Iterator[_Pipeline]:
    """Run an annotate and a review worker, under a steady stream of uploads."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        fake = stack.enter_context(gemini_process())
        settings = with_changes(
            Settings(), broker=broker, topic_prefix=f"{name}.", store_uri=str(folder / "lancedb"),
            llm="gemini", gemini_api_key="key", gemini_base_url=fake.url, llm_usd_per_day=0.0,
            llm_requests_per_minute=1e6, llm_tokens_per_minute=1e9,
        )  # fmt: skip
        ensure_topics(settings)
        workers = Workers(settings, folder)
        stack.callback(workers.stop_all)
        for role in ("annotate", "review"):
            workers.start(role)
            workers.wait_until_up(role)
        made = _Pipeline(
            settings,
            fake,
            Committed(settings, "annotate", VIDEO_UPLOADS),
            Committed(settings, "review", REVIEW_REQUESTS),
            _Ends(settings, REVIEW_REQUESTS),
        )
        producer, stop = ConfirmedProducer(settings), threading.Event()
        sender = threading.Thread(target=send, args=(producer, _uploads(settings, stop), rate))
        sender.start()
        try:
            yield made
        finally:
            stop.set()
            sender.join()
            for one in (producer, made.annotated, made.reviewed, made.requested):
                one.close()


def _watch(pipeline: _Pipeline, seconds: float) -> "_Phase":
    began, before, since = time.monotonic(), pipeline.annotated.count(), now_ms()
    time.sleep(seconds)
    per_s = (pipeline.annotated.count() - before) / (time.monotonic() - began)
    return _Phase(since, now_ms(), per_s)


class _Phase(NamedTuple):
    since_ms: int
    until_ms: int
    per_s: float


def _p99s(waits: _Waits, phases: list[_Phase]) -> list[int]:
    """Return the p99 of each ten seconds: what else the machine does comes in bursts."""
    windows: dict[int, list[int]] = {}
    for at, ms in waits:
        for one in phases:
            if one.since_ms <= at < one.until_ms:
                windows.setdefault(one.since_ms + (at - one.since_ms) // _WINDOW_MS, []).append(ms)
    return [sorted(window)[int(0.99 * len(window))] for window in windows.values()]


class _Ends:
    """Counts the records of a fresh topic."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._consumer = make_consumer(settings, "ends")
        topic = settings.topic(name)
        self._partitions = [TopicPartition(topic, p) for p in partitions_of(self._consumer, settings, topic)]

    def count(self) -> int:
        return sum(self._consumer.get_watermark_offsets(one, timeout=30)[1] for one in self._partitions)

    def close(self) -> None:
        self._consumer.close()


def _waited(settings: Settings) -> _Waits:
    """Return when each upload was received and how long its first annotation took from there, epoch ms and ms."""
    decoder = Decoder(Annotation)
    annotations = (
        (record.timestamp_ms, decoder.decode(record.value or b"")) for record in read_topic(settings, ANNOTATIONS)
    )
    return [(one.received_at_ms, at - one.received_at_ms) for at, one in annotations if one.first]


def _uploads(settings: Settings, stop: threading.Event) -> Iterator[Message]:
    demo = load_uploads(now_ms())
    number = 0
    while not stop.is_set():
        upload = demo[number % len(demo)].upload
        number += 1
        made = msgspec.structs.replace(upload, video_id=f"v{number}", title=f"{upload.title} {number}")
        yield Message(settings.topic(VIDEO_UPLOADS), made.video_id.encode(), encode(made))


def _wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
