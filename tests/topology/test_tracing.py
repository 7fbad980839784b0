"""Traces through worker processes and a real broker, to a collector that takes what OpenTelemetry sends."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from schemas.events import VideoUpload
from schemas.wire import encode
from streams.clock import now_ms
from streams.record import Message
from tests.fakes.in_thread import in_thread
from tests.fakes.otlp_collector import OtlpCollector, Span, otlp_collector
from tests.processes import wait_until
from topology.demo.content import load_uploads
from topology.demo.viewers import watch_events
from topology.fleet import Fleet
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.settings import ROLES, Settings, with_changes
from topology.topics import (
    ANNOTATIONS,
    REVIEW_REQUESTS,
    SESSION_CANDIDATES,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)
from topology.tracing import make_tracing

UPLOADS = [one.upload for one in load_uploads(now_ms())]
PRODUCER = "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[OtlpCollector]:
    with in_thread(otlp_collector) as started:
        yield started


@pytest.fixture
def traced(pipeline: Settings, collector: OtlpCollector) -> Settings:
    return with_changes(pipeline, otlp_endpoint=collector.url, trace_share=0.0)


def parent(trace_id: str, *, sampled: bool = True) -> tuple[tuple[str, bytes], ...]:
    return (("traceparent", f"00-{trace_id}-{PRODUCER}-{int(sampled):02x}".encode()),)


def upload(settings: Settings, one: VideoUpload, headers: tuple[tuple[str, bytes], ...] = ()) -> Message:
    return Message(settings.topic(VIDEO_UPLOADS), one.video_id.encode(), encode(one), headers)


def test_a_sampled_upload_and_watch_are_followed_through_every_role(
    traced: Settings, collector: OtlpCollector, producer: ConfirmedProducer, tmp_path: Path
) -> None:
    followed = {one.video_id: f"{number:032x}" for number, one in enumerate(UPLOADS[:20], 1)}
    not_sampled, watched = "f" * 32, "e" * 32
    watch = next(iter(watch_events(load_uploads(now_ms()), 1, 3, now_ms())))
    fleet = Fleet(traced, tmp_path)
    try:
        fleet.start(ROLES)
        producer.produce_now([upload(traced, one, parent(followed[one.video_id])) for one in UPLOADS[:20]])
        producer.produce_now([upload(traced, one, parent(not_sampled, sampled=False)) for one in UPLOADS[20:30]])
        producer.produce_now([upload(traced, one) for one in UPLOADS[30:40]])
        value = encode(watch)
        producer.produce_now([Message(traced.topic(WATCH_EVENTS), watch.user_id.encode(), value, parent(watched))])

        def spans(role: str, topic: str, trace_id: str) -> list[Span]:
            return collector.named(f"{role} {traced.topic(topic)}", trace_id)

        def reviewed() -> set[str]:
            requests = {(record.key or b"").decode() for record in read_topic(traced, REVIEW_REQUESTS)}
            return followed.keys() & requests

        def complete() -> bool:
            asked = reviewed()
            return bool(spans("session", WATCH_EVENTS, watched)) and all(
                len(spans(role, ANNOTATIONS, trace_id)) == 1 + (video_id in asked)
                for video_id, trace_id in followed.items()
                for role in ("store", "session")
            )

        wait_until(complete, 60, "every annotation of a sampled upload is followed into store and session")
    finally:
        fleet.stop()

    asked = reviewed()
    assert 0 < len(asked) < len(followed), "some uploads are certain and some are not"
    for video_id, trace_id in followed.items():
        [annotate] = spans("annotate", VIDEO_UPLOADS, trace_id)
        review = spans("review", REVIEW_REQUESTS, trace_id)
        assert (annotate.service, annotate.parent_id, annotate.key) == ("vibestream-annotate", PRODUCER, video_id)
        assert [span.parent_id for span in review] == [annotate.span_id] * (video_id in asked)
        for role in ("store", "session"):
            causes = {span.parent_id for span in spans(role, ANNOTATIONS, trace_id)}
            assert causes == {span.span_id for span in (annotate, *review)}
    [made] = spans("session", WATCH_EVENTS, watched)
    [candidates] = read_topic(traced, SESSION_CANDIDATES)
    assert dict(candidates.headers)["traceparent"] == f"00-{watched}-{made.span_id}-01".encode()
    assert {span.trace_id for span in collector.spans} == {*followed.values(), watched}
    assert all(span.seconds > 0 for span in collector.spans)


def test_uploads_without_a_trace_begin_one_in_the_share_that_is_set(
    traced: Settings, collector: OtlpCollector, producer: ConfirmedProducer, tmp_path: Path
) -> None:
    fleet = Fleet(with_changes(traced, trace_share=1.0), tmp_path)
    try:
        fleet.start(["annotate", "store"])
        producer.produce_now([upload(traced, one) for one in UPLOADS[:5]])
        wait_until(lambda: len(collector.spans) >= 10, 30, "annotate and store have sent their spans")
    finally:
        fleet.stop()
    begun = {span.span_id: span for span in collector.spans if span.service == "vibestream-annotate"}
    stored = [span for span in collector.spans if span.service == "vibestream-store"]
    assert (len(begun), len(stored)) == (5, 5)
    assert {span.parent_id for span in begun.values()} == {""}
    assert all(begun[span.parent_id].trace_id == span.trace_id for span in stored)


def test_a_collector_without_the_extra_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "topology.spans", None)
    assert not make_tracing(Settings(), "store", ANNOTATIONS).on
    with pytest.raises(ConfigurationError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318 .*vibestream\[tracing\]"):
        make_tracing(Settings(otlp_endpoint="http://c:4318"), "store", ANNOTATIONS)
