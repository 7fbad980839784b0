"""The whole path: worker processes, a real broker, a real LanceDB, and a fake Gemini that answers the reviews."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.scrape import total
from schemas.annotation import Annotation
from schemas.attributes import load_catalogue
from schemas.candidates import SessionCandidates
from schemas.dead_letter import DeadLetter
from schemas.wire import Decoder, encode
from streams.attribute_table import AttributeTable
from streams.clock import now_ms
from streams.record import Message
from tests.processes import wait_until
from topology.attribute_store import open_table
from topology.audit import audit
from topology.demo.content import load_uploads
from topology.demo.flow import Flow, Progress
from topology.demo.viewers import watch_events
from topology.fleet import Fleet
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.settings import ROLES, Settings
from topology.topics import ANNOTATIONS, DEAD_LETTERS, SESSION_CANDIDATES, VIDEO_UPLOADS, WATCH_EVENTS

UPLOADS = [one.upload for one in load_uploads(now_ms())]
WATCHES = list(watch_events(load_uploads(now_ms()), 1_500, 3, now_ms()))


@pytest.fixture
def fleet(pipeline: Settings, tmp_path: Path) -> Iterator[Fleet]:
    workers = Fleet(pipeline, tmp_path)
    yield workers
    workers.stop()


def uploads(settings: Settings) -> list[Message]:
    return [Message(settings.topic(VIDEO_UPLOADS), u.video_id.encode(), encode(u)) for u in UPLOADS]


def watches(settings: Settings) -> list[Message]:
    return [Message(settings.topic(WATCH_EVENTS), w.user_id.encode(), encode(w)) for w in WATCHES]


def drain(settings: Settings, uploads: int, watches: int) -> Progress:
    seen: list[Progress] = []
    flow = Flow(settings)
    flow.wait(uploads, watches, seen.append, lambda: None)
    flow.close()
    return seen[-1]


def lists(settings: Settings) -> list[SessionCandidates]:
    decoder = Decoder(SessionCandidates)
    return [decoder.decode(record.value or b"") for record in read_topic(settings, SESSION_CANDIDATES)]


def table(settings: Settings) -> AttributeTable:
    return open_table(settings, load_catalogue())


def test_workers_killed_in_the_middle_and_started_again_lose_and_double_nothing(
    pipeline: Settings, fleet: Fleet, producer: ConfirmedProducer
) -> None:
    fleet.start(ROLES)
    producer.produce_now(uploads(pipeline)[:280])
    for role in ROLES:
        fleet.restart(role)
        producer.produce_now(watches(pipeline)[ROLES.index(role) * 375 :][:375])
    producer.produce_now(uploads(pipeline)[280:])
    drain(pipeline, len(UPLOADS), len(WATCHES))

    result = audit(pipeline, table(pipeline))
    assert result.ok, result.examples
    assert (result.uploads.records, result.uploads.lost, result.uploads.dead_lettered) == (len(UPLOADS), 0, 0)
    assert (result.annotations.final, result.annotations.provisional) == (len(UPLOADS), 0)
    assert (result.store.rows, result.store.duplicates) == (len(UPLOADS), 0)
    sessions = {watch.session_id for watch in WATCHES}
    assert {made.session_id for made in lists(pipeline)} == sessions


def test_poison_ends_in_dead_letters_and_the_rest_flows_on(
    pipeline: Settings, fleet: Fleet, producer: ConfirmedProducer
) -> None:
    good = uploads(pipeline)[:60]
    topic = pipeline.topic(VIDEO_UPLOADS)
    poison = {
        b"{ this is no JSON": "undecodable",
        b'{"schema_version":1,"video_id":"p","creator_id":"c","uploaded_at_ms":"yesterday"}': "invalid",
        b'{"schema_version":2,"video_id":"p","creator_id":"c","uploaded_at_ms":1}': "unsupported_version",
    }
    bad = [Message(topic, b"p", value) for value in poison]
    bad_watch = Message(pipeline.topic(WATCH_EVENTS), b"u", b'{"schema_version":1}')
    producer.produce_now([*good[:20], bad[0], *good[20:40], bad[1], *good[40:50], bad[2], *good[50:]])
    producer.produce_now([*watches(pipeline)[:50], bad_watch, *watches(pipeline)[50:100]])
    fleet.start(ROLES)
    drain(pipeline, 63, 101)

    letters = [Decoder(DeadLetter).decode(r.value or b"") for r in read_topic(pipeline, DEAD_LETTERS)]
    assert {letter.payload: letter.kind for letter in letters if letter.topic == topic} == poison
    assert [letter.payload for letter in letters if letter.topic != topic] == [bad_watch.value]
    result = audit(pipeline, table(pipeline))
    assert result.ok, result.examples
    assert (result.uploads.records, result.uploads.dead_lettered, result.annotations.final) == (63, 3, 60)
    assert len({made.user_id for made in lists(pipeline)}) == len({w.user_id for w in WATCHES[:100]})


def test_a_taken_down_video_leaves_the_store_and_the_candidate_lists(
    pipeline: Settings, fleet: Fleet, producer: ConfirmedProducer
) -> None:
    fleet.start(ROLES)
    producer.produce_now(uploads(pipeline)[:100])
    drain(pipeline, 100, 0)
    producer.produce_now(watches(pipeline)[:100])
    drain(pipeline, 100, 100)
    served = {candidate.video_id for made in lists(pipeline) for candidate in made.candidates}
    gone = {video_id for video_id in served if video_id in {u.video_id for u in UPLOADS[:100]}}
    assert len(gone) > 20, "too few served to tell"

    topic = pipeline.topic(VIDEO_UPLOADS)
    producer.produce_now([Message(topic, video_id.encode(), None) for video_id in gone])
    drain(pipeline, 100 + len(gone), 100)
    left = 100 - len(gone)
    wait_until(
        lambda: total(fleet.metrics("session"), "vibestream_snapshot_videos") == left, 10, "the snapshot follows"
    )
    producer.produce_now(watches(pipeline)[100:300])
    drain(pipeline, 100 + len(gone), 300)

    events = {watch.event_id for watch in WATCHES[100:300]}
    after = [made for made in lists(pipeline) if made.event_id in events]
    assert after
    assert not gone & {candidate.video_id for made in after for candidate in made.candidates}
    rows = [row for batch in table(pipeline).read(["video_id", "status", "vector"]) for row in batch.to_pylist()]
    assert {row["video_id"] for row in rows if row["status"] == "removed"} == gone
    assert all(row["vector"] is None for row in rows if row["status"] == "removed")
    assert audit(pipeline, table(pipeline)).ok


def test_the_audit_finds_what_was_lost(pipeline: Settings, fleet: Fleet, producer: ConfirmedProducer) -> None:
    producer.produce_now(uploads(pipeline)[:5])
    annotation = Annotation(schema_version=1, video_id="unstored", status="final", received_at_ms=5, annotated_at_ms=5)
    producer.produce_now([Message(pipeline.topic(ANNOTATIONS), b"unstored", encode(annotation))])
    result = audit(pipeline, table(pipeline))
    assert not result.ok
    assert (result.uploads.lost, result.store.missing) == (5, 1)
    assert any("unstored" in example for example in result.examples)


def test_every_worker_exposes_its_metrics(pipeline: Settings, fleet: Fleet, producer: ConfirmedProducer) -> None:
    fleet.start(ROLES)
    producer.produce_now(uploads(pipeline)[:50])
    drain(pipeline, 50, 0)
    producer.produce_now(watches(pipeline)[:20])
    drain(pipeline, 50, 20)
    expected = {
        "annotate": {"vibestream_annotated_videos_total", "vibestream_produced_records_total"},
        "review": {"vibestream_llm_calls_total", "vibestream_llm_tokens_total", "vibestream_llm_seconds_count"},
        "store": {"vibestream_upload_to_searchable_seconds_count", "vibestream_stored_rows_total"},
        "session": {"vibestream_watch_to_candidates_seconds_count", "vibestream_candidate_lists_total"},
    }
    common = {"vibestream_consumed_records_total", "vibestream_stage_seconds_count", "vibestream_queued_runs"}

    def moved(role: str) -> set[str]:
        return {sample.name for sample in fleet.metrics(role) if sample.value > 0} | {"vibestream_queued_runs"}

    for role in ROLES:
        wanted = expected[role] | common
        wait_until(lambda role=role, wanted=wanted: wanted <= moved(role), 10, f"{role} exposes {wanted - moved(role)}")
