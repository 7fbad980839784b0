"""The LLM is gone for two minutes while uploads come in: does the student's path notice?

`python -m tests.benchmarks.llm_outage` runs an annotate and a review worker on the embedded broker and sends uploads at
a constant rate. A fake Gemini answers, then fails every request with 503, then answers again. Prints one JSON line: how
many uploads a second were annotated while it was up and while it was down, how long each took from the broker to its
first annotation (the ratios are above 1 where the outage made it better), and how long the reviews took to catch up.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from schemas.annotation import Annotation
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.record import Message
from tests.fakes.gemini_process import gemini_process
from tests.faults.workers import Workers
from topology.broker import embedded_broker
from topology.demo.content import load_uploads
from topology.demo.flow import Flow
from topology.kafka import Committed, read_topic
from topology.producer import ConfirmedProducer
from topology.replay import send
from topology.settings import Settings, with_changes
from topology.topics import ANNOTATIONS, REVIEW_REQUESTS, VIDEO_UPLOADS, ensure_topics


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=100.0, help="uploads a second")
    parser.add_argument("--up", type=float, default=60.0, help="seconds before the outage")
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
        stop = threading.Event()
        sender = threading.Thread(target=send, args=(producer, _uploads(settings, stop), rate))
        sender.start()
        try:
            _wait_for(lambda: annotated.count() > 3 * rate and reviewed.count() > 0, 120, "the workers are at it")
            began, before, up_from = time.monotonic(), annotated.count(), now_ms()
            time.sleep(up_s)
            down_at, middle, reviewed_before, down_from = (
                time.monotonic(),
                annotated.count(),
                reviewed.count(),
                now_ms(),
            )
            fake.fail(overloaded=1.0)
            time.sleep(down_s)
            end, after, reviewed_after, down_until = time.monotonic(), annotated.count(), reviewed.count(), now_ms()
            fake.fail()
        finally:
            stop.set()
            sender.join()
        flow = Flow(settings)  # it counts to the end of the topics, which must not move
        lag = flow.progress()
        _wait_for(lambda: (now := flow.progress()).reviewed >= now.review_requests, 600, "the reviews catch up")
        drained = time.monotonic() - end
        waited = _waited(settings)
        for one in (flow, producer, annotated, reviewed):
            one.close()
    up = (middle - before) / (down_at - began)
    down = (after - middle) / (end - down_at)
    p99_up, p99_down = (
        _p99([ms for at, ms in waited if since <= at < until])
        for since, until in ((up_from, down_from), (down_from, down_until))
    )
    print(f"{reviewed_after - reviewed_before} reviews were finished during the outage", file=sys.stderr)
    return {
        "rate": rate,
        "up_per_s": round(up, 1),
        "down_per_s": round(down, 1),
        "ratio": round(down / up, 3),
        "p99_up_ms": p99_up,
        "p99_down_ms": p99_down,
        "p99_ratio": round(p99_up / max(p99_down, 1.0), 3),
        "review_lag": lag.review_requests - lag.reviewed,
        "drain_s": round(drained, 1),
    }


def _waited(settings: Settings) -> list[tuple[int, int]]:
    """Return when each upload was received and how long its first annotation took from there, epoch ms and ms."""
    decoder = Decoder(Annotation)
    annotations = (
        (record.timestamp_ms, decoder.decode(record.value or b"")) for record in read_topic(settings, ANNOTATIONS)
    )
    return [(one.received_at_ms, at - one.received_at_ms) for at, one in annotations if one.first]


def _p99(waited: list[int]) -> float:
    return float(sorted(waited)[int(0.99 * len(waited))])


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
