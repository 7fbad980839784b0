"""The LLM is gone for two minutes while uploads come in: does the student's path notice?

`python -m tests.benchmarks.llm_outage` runs an annotate and a review worker on the embedded broker and sends uploads at
a constant rate. A fake Gemini answers, then fails every request with 503, then answers again; when the reviews have
caught up, it is watched for as long as before. Prints one JSON line: how
many uploads a second were annotated while it was up and while it was down, how long each took from the broker to its
first annotation (the ratios are above 1 where the outage made it better), and how long the reviews took to catch up.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
from confluent_kafka import TopicPartition

from schemas.annotation import Annotation
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.record import Message
from tests.fakes.gemini_process import gemini_process
from tests.faults.workers import Workers
from topology.broker import embedded_broker
from topology.demo.content import load_uploads
from topology.kafka import Committed, make_consumer, partitions_of, read_topic
from topology.producer import ConfirmedProducer
from topology.replay import send
from topology.settings import Settings, with_changes
from topology.topics import ANNOTATIONS, REVIEW_REQUESTS, VIDEO_UPLOADS, ensure_topics

_WINDOW_MS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=100.0, help="uploads a second")
    parser.add_argument("--up", type=float, default=60.0, help="seconds before the outage, and again when it is over")
    parser.add_argument("--down", type=float, default=120.0, help="seconds of the outage")
    options = parser.parse_args()
    print(json.dumps(outage(options.rate, options.up, options.down)))


def outage(rate: float, up_s: float, down_s: float) -> dict[str, float]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        fake = stack.enter_context(gemini_process())
        settings = with_changes(
            Settings(), broker=stack.enter_context(embedded_broker()), store_uri=str(folder / "lancedb"),
            llm="gemini", gemini_api_key="key", gemini_base_url=fake.url, llm_usd_per_day=0.0,
            llm_requests_per_minute=1e6, llm_tokens_per_minute=1e9,
        )  # fmt: skip
        ensure_topics(settings)
        workers = Workers(settings, folder)
        stack.callback(workers.stop_all)
        for role in ("annotate", "review"):
            workers.start(role)
            workers.wait_until_up(role)
        producer = ConfirmedProducer(settings)
        annotated = Committed(settings, "annotate", VIDEO_UPLOADS)
        reviewed = Committed(settings, "review", REVIEW_REQUESTS)
        requested = _Ends(settings, REVIEW_REQUESTS)
        stop = threading.Event()
        sender = threading.Thread(target=send, args=(producer, _uploads(settings, stop), rate))
        sender.start()
        phases: list[_Phase] = []

        def phase(seconds: float) -> None:
            began, before, since = time.monotonic(), annotated.count(), now_ms()
            time.sleep(seconds)
            phases.append(_Phase(since, now_ms(), (annotated.count() - before) / (time.monotonic() - began)))

        try:
            _wait_for(lambda: annotated.count() > 3 * rate and reviewed.count() > 0, 120, "the workers are at it")
            phase(up_s)
            reviewed_before = reviewed.count()
            fake.fail(overloaded=1.0)
            phase(down_s)
            fake.fail()
            back, reviewed_after, missing = time.monotonic(), reviewed.count(), requested.count() - reviewed.count()
            _wait_for(lambda: requested.count() - reviewed.count() < rate, 600, "the reviews catch up")
            drained = time.monotonic() - back
            phase(up_s)
        finally:
            stop.set()
            sender.join()
        waited = _waited(settings)
        for one in (producer, annotated, reviewed, requested):
            one.close()
    first, down, last = phases
    up_per_s = (first.per_s + last.per_s) / 2
    p99_up, p99_down = _p99(waited, first, last), _p99(waited, down)
    print(f"{reviewed_after - reviewed_before} reviews were finished during the outage", file=sys.stderr)
    return {
        "rate": rate,
        "up_per_s": round(up_per_s, 1),
        "down_per_s": round(down.per_s, 1),
        "ratio": round(down.per_s / up_per_s, 3),
        "p99_up_ms": p99_up,
        "p99_down_ms": p99_down,
        "p99_ratio": round(p99_up / max(p99_down, 1.0), 3),
        "p99_first_ms": _p99(waited, first),
        "p99_last_ms": _p99(waited, last),
        "review_lag": missing,
        "drain_s": round(drained, 1),
    }


class _Phase(NamedTuple):
    since_ms: int
    until_ms: int
    per_s: float


def _p99(waited: list[tuple[int, int]], *phases: _Phase) -> float:
    """Return the median over ten seconds each of the p99: what else the machine does comes in bursts."""
    windows: dict[tuple[_Phase, int], list[int]] = {}
    for at, ms in waited:
        for one in phases:
            if one.since_ms <= at < one.until_ms:
                windows.setdefault((one, (at - one.since_ms) // _WINDOW_MS), []).append(ms)
    return statistics.median(sorted(window)[int(0.99 * len(window))] for window in windows.values())


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


def _waited(settings: Settings) -> list[tuple[int, int]]:
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
