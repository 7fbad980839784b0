"""Dead letters as an operator works through them: real topics, the real command line, real workers for the audit."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from schemas.attributes import load_catalogue
from schemas.dead_letter import DeadLetter, Resolution
from schemas.errors import ConfigurationError, InvalidRecord
from schemas.events import VideoUpload
from schemas.wire import encode
from streams.clock import now_ms
from streams.dead_letter import dead_letter
from streams.record import Message, Record
from streams.uploads import RECEIVED_HEADER
from tests.processes import wait_until
from tests.topology.test_cli import vibestream
from topology.attribute_store import open_table
from topology.audit import audit
from topology.dead_letters import (
    ORIGIN_HEADER,
    REPLAYS_HEADER,
    Filter,
    describe,
    drop,
    find,
    line,
    parse_time,
    read_letters,
    replay,
    replays,
    select,
)
from topology.fleet import Fleet
from topology.kafka import Committed, make_consumer, partitions_of
from topology.producer import ConfirmedProducer
from topology.settings import Settings, environment
from topology.topics import ANNOTATIONS, DEAD_LETTERS, VIDEO_UPLOADS

LETTER = DeadLetter(
    schema_version=1, stage="annotate", topic="video-uploads", partition=0, offset=7, timestamp_ms=1_000,
    failed_at_ms=2_000, kind="undecodable", message="no JSON", key=b"v1", payload=b"{ this is no JSON",
)  # fmt: skip


def letter(**changes: object) -> DeadLetter:
    return msgspec.structs.replace(LETTER, **changes)


def upload(video_id: str) -> bytes:
    return encode(VideoUpload(schema_version=1, video_id=video_id, creator_id="c", uploaded_at_ms=1, title="Tea"))


@pytest.fixture
def producer(settings: Settings) -> Iterator[ConfirmedProducer]:
    made = ConfirmedProducer(settings)
    yield made
    made.close()


def file(settings: Settings, producer: ConfirmedProducer, *letters: DeadLetter) -> None:
    topic = settings.topic(DEAD_LETTERS)
    producer.produce_now([Message(topic, one.origin.encode(), encode(one)) for one in letters])


def arrived(settings: Settings, topic: str, count: int) -> list[Record]:
    """The first `count` records of a topic, with their headers."""
    consumer = make_consumer(settings, "arrived")
    try:
        partitions = partitions_of(consumer, settings, topic)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        records: list[Record] = []
        wait_until(lambda: bool(records.extend(map(record, consumer.consume(100, 0.1))) or len(records) >= count), 10,
                   f"{count} records on {topic}")  # fmt: skip
        return sorted(records, key=lambda one: (one.partition, one.offset))
    finally:
        consumer.close()


def record(message: Any) -> Record:
    assert message.error() is None
    return Record(
        message.topic(), message.partition(), message.offset(), message.timestamp()[1], message.key(), message.value(),
        tuple(message.headers() or ()),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "offsets"),
    [
        (Filter(), [3, 1, 2]),
        (Filter(handled=True), [3, 1, 2, 4]),
        (Filter(kind="failed"), [2]),
        (Filter(stage="store"), [1]),
        (Filter(topics=("watch-events", "p.watch-events")), [3]),
        (Filter(since_ms=200), [1, 2]),
        (Filter(until_ms=200), [3]),
        (Filter(kind="undecodable", since_ms=100, until_ms=201), [3, 1]),
    ],
)
def test_filters_leave_open_letters_in_the_order_of_failure(wanted: Filter, offsets: list[int]) -> None:
    dropped = Resolution(action="dropped", at_ms=500, replays=0)
    letters = [
        letter(offset=1, failed_at_ms=200, stage="store"),
        letter(offset=2, failed_at_ms=300, kind="failed"),
        letter(offset=3, failed_at_ms=100, topic="p.watch-events"),
        letter(offset=4, failed_at_ms=400, resolution=dropped),
    ]
    assert [one.offset for one in select(letters, wanted)] == offsets


def test_a_time_is_an_iso_time_or_how_long_ago() -> None:
    assert parse_time("2025-11-22T08:00") == parse_time("2025-11-22T09:00+01:00") == 1_763_798_400_000
    assert parse_time("2025-11-22") == 1_763_769_600_000
    before = now_ms()
    assert before - 7_200_000 <= parse_time("2h") <= now_ms() - 7_200_000
    for text in ("yesterday", "2 hours", "-2h", ""):
        with pytest.raises(ConfigurationError, match="is no time"):
            parse_time(text)


def test_a_line_fits_the_terminal_and_cannot_take_it_over() -> None:
    one = letter(message="bad\n\x1b[2Jtitle " + "x" * 200)
    assert line(one).startswith(r"video-uploads/0/7  undecodable  annotate  1970-01-01T00:00:02Z  bad \x1b[2Jtitle xxx")
    assert len(line(one, 100)) == 100
    assert line(one, 100).endswith("x…")


def test_the_description_has_text_indented_json_and_the_beginning_of_other_bytes() -> None:
    described = describe(letter(payload=b'{"title":"Caf\xc3\xa9","n":1}', headers=(("trace", b"ab"), ("empty", None))))
    for part in ("state: open", "replays: 0", "key: v1", "header trace: ab", "header empty: (none)",
                 'payload (23 bytes):\n{\n  "title": "Café",\n  "n": 1\n}'):  # fmt: skip
        assert part in described
    assert describe(LETTER).endswith("payload (17 bytes):\n{ this is no JSON")
    assert describe(letter(payload=None)).endswith("payload:\n(none)")
    binary = describe(letter(payload=b"\xff\x00" * 200))
    assert "000000f0  ff 00 ff 00" in binary
    assert binary.endswith("... and 144 bytes more")


def test_a_redelivered_letter_counts_once_stays_handled_and_a_new_record_at_its_offset_is_open(
    settings: Settings, producer: ConfirmedProducer
) -> None:
    again, other = letter(failed_at_ms=3_000, message="still no JSON"), letter(offset=8)
    file(settings, producer, LETTER, other, again)
    letters = read_letters(settings, quiet_s=0.5)
    assert letters == {LETTER.origin: again, other.origin: other}

    drop(settings, producer, [again])
    file(settings, producer, letter(failed_at_ms=4_000))
    letters = read_letters(settings, quiet_s=0.5)
    assert letters[LETTER.origin].failed_at_ms == 4_000
    assert "state: dropped at " in describe(letters[LETTER.origin])
    assert select(letters.values(), Filter()) == [other]

    anew = letter(timestamp_ms=5_000, failed_at_ms=5_001)
    file(settings, producer, anew)
    assert read_letters(settings, quiet_s=0.5)[LETTER.origin] == anew


def test_what_is_no_letter_is_passed_over(settings: Settings, producer: ConfirmedProducer) -> None:
    topic = settings.topic(DEAD_LETTERS)
    producer.produce_now([Message(topic, b"x", b"junk"), Message(topic, b"x", None)])
    file(settings, producer, LETTER)
    assert list(read_letters(settings, quiet_s=0.5)) == [LETTER.origin]


def test_replayed_records_lie_where_they_were_in_their_order_with_key_value_and_headers(
    settings: Settings, producer: ConfirmedProducer
) -> None:
    topic = settings.topic(VIDEO_UPLOADS)
    letters = [
        letter(topic=topic, partition=2, offset=10, key=b"a", payload=None, headers=(("trace", b"1"), ("empty", None))),
        letter(topic=topic, partition=2, offset=9, key=None, payload=b"\xff"),
        letter(topic=topic, partition=3, offset=1, key=b"", payload=b""),
    ]
    file(settings, producer, *letters)
    replay(settings, producer, letters)

    def ours(origin: str) -> tuple[tuple[str, bytes], ...]:
        return (REPLAYS_HEADER, b"1"), (ORIGIN_HEADER, origin.encode()), (RECEIVED_HEADER, b"1000")

    assert [(one.partition, one.key, one.value, one.headers) for one in arrived(settings, topic, 3)] == [
        (2, None, b"\xff", ours(f"{topic}/2/9")),
        (2, b"a", None, (("trace", b"1"), ("empty", None), *ours(f"{topic}/2/10"))),
        (3, b"", b"", ours(f"{topic}/3/1")),
    ]
    handled = read_letters(settings, quiet_s=0.5)
    assert not select(handled.values(), Filter())
    assert {(one.resolution.action, one.resolution.replays) for one in handled.values() if one.resolution} == {
        ("replayed", 1)
    }


def test_replays_add_up_over_the_letters_of_a_record_until_it_is_skipped(
    settings: Settings, producer: ConfirmedProducer
) -> None:
    topic = settings.topic(VIDEO_UPLOADS)
    producer.produce_now([Message(topic, b"v", b"poison", partition=1)])

    def refused(copies: int) -> DeadLetter:
        last = arrived(settings, topic, copies)[-1]
        error = InvalidRecord("undecodable", "poison")
        producer.produce_now([dead_letter(settings.topic(DEAD_LETTERS), "annotate", last, error)])
        (one,) = select(read_letters(settings, quiet_s=0.5).values(), Filter())
        return one

    for count in range(3):
        one = refused(count + 1)
        assert replays(one) == count
        replay(settings, producer, [one])
    first = str(arrived(settings, topic, 1)[0].timestamp_ms).encode()
    assert dict(refused(4).headers) == {
        REPLAYS_HEADER: b"3", ORIGIN_HEADER: f"{topic}/1/0".encode(), RECEIVED_HEADER: first,
    }  # fmt: skip

    done = vibestream(settings, "dlq", "replay", "--yes")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"skipped {topic}/1/3: replayed 3 times, --max-replays 3",
        "0 dead letters replayed",
    ]
    assert vibestream(settings, "dlq", "replay", f"{topic}/1/3", "--max-replays", "4", "--yes").returncode == 0
    assert dict(arrived(settings, topic, 5)[-1].headers)[REPLAYS_HEADER] == b"4"


@pytest.mark.parametrize(("value", "count"), [(b"2", 2), (None, 0), (b"-5", 0), (b"many", 0)])
def test_a_count_that_is_not_ours_is_none(value: bytes | None, count: int) -> None:
    assert replays(letter(headers=((REPLAYS_HEADER, value),))) == count


def test_letters_are_listed_shown_and_dropped_from_the_command_line(
    settings: Settings, producer: ConfirmedProducer
) -> None:
    topic = settings.topic(VIDEO_UPLOADS)
    first = letter(topic=topic)
    old = letter(topic=topic, offset=8, kind="failed", message="old", failed_at_ms=1_000)
    new = letter(topic=topic, offset=9, kind="failed", message="new", failed_at_ms=now_ms())
    file(settings, producer, first, first, new, old)

    listed = vibestream(settings, "dlq", "list").stdout.splitlines()
    assert [text.split()[0] for text in listed[:-1]] == [old.origin, first.origin, new.origin]
    assert listed[1] == f"{first.origin}  undecodable  annotate  1970-01-01T00:00:02Z  no JSON"
    assert listed[-1] == "3 dead letters"
    done = vibestream(settings, "dlq", "list", "--json", "--kind", "failed", "--topic", "video-uploads", "--limit", "1")
    assert [json.loads(text)["origin"] for text in done.stdout.splitlines()] == [old.origin]
    assert done.stderr.splitlines()[-1] == "1 of 2 dead letters"
    assert "payload (17 bytes):\n{ this is no JSON" in vibestream(settings, "dlq", "show", first.origin).stdout

    assert vibestream(settings, "dlq", "drop", "--until", "1h", "--yes").stdout == "2 dead letters dropped\n"
    listed = vibestream(settings, "dlq", "list", "--all").stdout.splitlines()
    assert ["[dropped]" in text for text in listed] == [True, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "video-uploads/0/99"), "no dead letter has the origin 'video-uploads/0/99'"),
        (("list", "--since", "yesterday"), "'yesterday' is no time; write 2025-11-22T08:00"),
        (("replay", "a/0/1", "--kind", "failed"), "--kind failed: name either origins or filters, not both"),
        (("replay",), "1 dead letter to replay: nobody is there to ask; say --yes"),
    ],
)
def test_what_is_wrong_is_one_line(
    settings: Settings, producer: ConfirmedProducer, arguments: tuple[str, ...], says: str
) -> None:
    file(settings, producer, LETTER)
    done = subprocess.run(
        [sys.executable, "-m", "topology.cli", "dlq", *arguments],
        env=environment(settings), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert not done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"vibestream: {says}")


@pytest.mark.parametrize(("answer", "code", "open_after"), [("y", 0, 0), ("", 1, 1)])
def test_a_person_is_asked_with_the_number(
    settings: Settings, producer: ConfirmedProducer, answer: str, code: int, open_after: int
) -> None:
    file(settings, producer, LETTER)
    person, terminal = pty.openpty()
    try:
        os.write(person, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "topology.cli", "dlq", "drop"],
            env=environment(settings), stdin=terminal, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(person)
        os.close(terminal)
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith("drop 1 dead letter? [y/N] ")
    assert len(select(read_letters(settings, quiet_s=0.5).values(), Filter())) == open_after


def test_the_audit_adds_up_after_replay_and_drop(
    settings: Settings, producer: ConfirmedProducer, tmp_path: Path
) -> None:
    topic = settings.topic(VIDEO_UPLOADS)
    fleet = Fleet(settings, tmp_path)
    annotated, stored = Committed(settings, "annotate", VIDEO_UPLOADS), Committed(settings, "store", ANNOTATIONS)
    try:
        poison, good = (b"poison to drop", b"poison to replay"), upload("good")
        producer.produce_now([Message(topic, b"p", value, partition=at) for at, value in enumerate(poison)])
        producer.produce_now([Message(topic, b"good", good, partition=2)])
        fleet.start(["annotate", "store"])
        wait_until(lambda: annotated.count() == 3 and stored.count() == 1, 30, "all are worked on")
        dropped, replayed = find(read_letters(settings), [f"{topic}/0/0", f"{topic}/1/0"])
        # With a letter, the upload is accounted for by that alone, and what is replayed by its own annotation.
        failed = letter(topic=topic, partition=2, offset=0, kind="failed", key=b"good", payload=good)
        file(settings, producer, failed)
        drop(settings, producer, [dropped])
        replay(settings, producer, [replayed, failed])
        wait_until(lambda: annotated.count() == 5 and stored.count() == 2, 30, "what was replayed is worked on")
    finally:
        fleet.stop()
        annotated.close()
        stored.close()

    result = audit(settings, open_table(settings, load_catalogue()))
    assert result.ok, result.examples
    assert (result.uploads.records, result.uploads.dead_lettered, result.store.rows) == (5, 4, 1)
    (again,) = select(read_letters(settings).values(), Filter())
    assert (again.origin, again.payload, replays(again)) == (f"{topic}/1/1", b"poison to replay", 1)
    assert dict(again.headers)[ORIGIN_HEADER] == replayed.origin.encode()
