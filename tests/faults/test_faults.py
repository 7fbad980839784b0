"""Faults under load, on real worker processes: whatever happens, the arithmetic holds afterwards.

Every scenario runs in two halves, uploads and then watches, with the fault in the midst of each: so the states of the
users can be compared with those of one clean pass over the finished catalogue.
"""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from schemas.wire import encode
from streams.clock import now_ms
from streams.record import Message
from tests.fakes.gemini_server import GeminiServer
from tests.faults.verdict import accounted, kept_states, replayed_states
from tests.faults.workers import Workers
from topology.demo.content import load_uploads
from topology.demo.flow import Flow
from topology.demo.viewers import watch_events
from topology.producer import ConfirmedProducer
from topology.replay import send
from topology.settings import ROLES, Settings
from topology.topics import VIDEO_UPLOADS, WATCH_EVENTS

WATCHES = 3_000
SECONDS = 8
"""How long each half is sent for; the faults fall into it."""

Fault = Callable[[Workers, GeminiServer], None]
chance = random.Random(11)


def none(workers: Workers, gemini: GeminiServer) -> None:
    """Nothing happens."""


def kill_all(workers: Workers, gemini: GeminiServer) -> None:
    """SIGKILL every role, in any order, at any moment."""
    for role in chance.sample(ROLES, len(ROLES)):
        time.sleep(chance.uniform(0, 1))
        workers.kill(role)
        workers.start(role)


def freeze_all(workers: Workers, gemini: GeminiServer) -> None:
    """Stop every role for longer than the session time-out while another worker takes over, then let it go on."""
    frozen = [workers.oldest(role) for role in ROLES]
    for role, worker in zip(ROLES, frozen, strict=True):
        worker.send_signal(signal.SIGSTOP)
        workers.start(role)
    time.sleep(10)
    for worker in frozen:
        worker.send_signal(signal.SIGCONT)


def rolling_restart(workers: Workers, gemini: GeminiServer) -> None:
    """SIGTERM and start again, one role after the other."""
    for role in ROLES:
        workers.wait_until_up(role)
        workers.end(role)
        workers.start(role)


def scale_out_and_in(workers: Workers, gemini: GeminiServer) -> None:
    """From one to three annotate and session workers, and back."""
    added = [(role, workers.start(role)) for role in ("annotate", "session") for _ in range(2)]
    for role, worker in added:
        workers.wait_until_up(role)
        workers.end(role, worker)


def llm_down(workers: Workers, gemini: GeminiServer) -> None:
    """Gemini answers 503, 429 and HTML, and drops connections, thirty times over."""
    gemini.script.extend(["overloaded", "drop", "rate_limit", "gateway", "html"] * 6)


@pytest.fixture
def workers(pipeline: Settings, tmp_path: Path) -> Iterator[Workers]:
    made = Workers(pipeline, tmp_path)
    yield made
    made.stop_all()


def under_load(producer: ConfirmedProducer, messages: Sequence[Message], fault: Callable[[], None]) -> None:
    """Send the messages over some seconds, and do the fault meanwhile."""
    sender = threading.Thread(target=send, args=(producer, messages, len(messages) / SECONDS))
    sender.start()
    time.sleep(2)
    fault()
    sender.join()


@pytest.mark.parametrize("fault", [none, kill_all, freeze_all, rolling_restart, scale_out_and_in, llm_down])
def test_nothing_is_lost_and_nothing_counts_twice(
    fault: Fault, pipeline: Settings, workers: Workers, gemini: GeminiServer, producer: ConfirmedProducer
) -> None:
    demo = load_uploads(now_ms())
    uploads = [Message(pipeline.topic(VIDEO_UPLOADS), one.upload.video_id.encode(), encode(one.upload)) for one in demo]
    uploads += chance.sample(uploads, 56)  # a tenth comes twice, out of order
    poison = [Message(pipeline.topic(VIDEO_UPLOADS), b"p", b"{%d" % n) for n in range(6)]
    for message in poison:
        uploads.insert(chance.randrange(len(uploads)), message)
    watches = [
        Message(pipeline.topic(WATCH_EVENTS), event.user_id.encode(), encode(event))
        for event in watch_events(demo, WATCHES, 5, now_ms())
    ]
    flow = Flow(pipeline)
    for role in ROLES:
        workers.start(role)

    under_load(producer, uploads, lambda: fault(workers, gemini))
    flow.wait(len(uploads), 0, lambda _: None, workers.check)
    counted = accounted(pipeline)
    assert (counted.uploads.records, counted.uploads.dead_lettered) == (len(uploads), len(poison))
    assert (counted.annotations.final, counted.annotations.provisional) == (len(demo), 0)
    assert (counted.store.rows, counted.store.duplicates) == (len(demo), 0)

    under_load(producer, watches, lambda: fault(workers, gemini))
    flow.wait(len(uploads), WATCHES, lambda _: None, workers.check)
    flow.close()
    assert kept_states(pipeline, producer) == replayed_states(pipeline)
