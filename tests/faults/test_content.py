"""Faults of what is sent: poison, clocks that jump, and events that come twice or too late."""

import dataclasses
from collections.abc import Sequence
from random import Random

import msgspec
from msgspec.structs import replace

from schemas.annotation import Annotation, ReviewRequest
from schemas.attributes import load_catalogue
from schemas.candidates import SessionCandidates
from schemas.errors import ErrorKind
from schemas.events import VideoUpload, WatchEvent
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.record import Message
from tests.faults.live import Live
from tests.faults.load import Letters, Load, ids, upload_messages, videos
from topology.attribute_store import open_table
from topology.kafka import read_topic
from topology.topics import ANNOTATIONS, REVIEW_REQUESTS, SESSION_CANDIDATES, VIDEO_UPLOADS, WATCH_EVENTS

YEAR_MS = 365 * 86_400_000
Poison = tuple[bytes | None, bytes | None, ErrorKind]
"""Key, value, and the kind of the dead letter that it becomes."""

_NESTED = b'{"deep":' + b"[" * 200_000
_LARGE = b'{"schema_version":1,"filler":"' + Random(1).randbytes(450_000).hex().encode() + b'"}'
"""So large that its dead letter is larger than what a broker takes by default."""
_HUGE = b'{"schema_version":1,"filler":"' + b"x" * 3_300_000 + b'"}'
"""Small when compressed, and so large otherwise that no dead letter can hold it."""
_BYTES: tuple[Poison, ...] = (
    (b"p", b"{ this is no JSON", "undecodable"),
    (b"p", b"\xff\xfe\x00", "undecodable"),
    (b"p", _NESTED, "undecodable"),
    (b"p", b"[]", "invalid"),
    (b"p", b'{"schema_version":1}', "invalid"),
    (b"p", _LARGE, "invalid"),
    (b"p", _HUGE, "failed"),
)


def changed(record: msgspec.Struct, **changes: object) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(record), **changes})


def upload_poison(upload: VideoUpload) -> list[Poison]:
    key = upload.video_id.encode()
    return [
        *_BYTES,
        (key, changed(upload, schema_version=2), "unsupported_version"),
        (key, changed(upload, uploaded_at_ms=-1), "invalid"),
        (key, changed(upload, uploaded_at_ms=5_000_000_000_000), "invalid"),
        (key, changed(upload, title=7), "invalid"),
        (key, changed(upload, transcript="x" * 50_001), "invalid"),
        (key, changed(upload, uploaded_at_ms=now_ms() + 5 * YEAR_MS), "impossible"),
        (b"another", encode(upload), "impossible"),
        (None, encode(upload), "impossible"),
        (b"\xff\xfe", encode(upload), "undecodable"),
    ]


def watch_poison(watch: WatchEvent) -> list[Poison]:
    key = watch.user_id.encode()
    return [
        *_BYTES,
        (key, changed(watch, schema_version=2), "unsupported_version"),
        (key, changed(watch, watch_ms=-1), "invalid"),
        (key, changed(watch, session_id=""), "invalid"),
        (key, changed(watch, watched_at_ms=5_000_000_000_000), "invalid"),
        (key, None, "impossible"),
        (b"another", encode(watch), "impossible"),
        (None, encode(watch), "impossible"),
    ]


def annotation_poison(annotation: Annotation) -> list[Poison]:
    key = annotation.video_id.encode()
    (score, *_) = annotation.attributes.values()
    unknown = replace(annotation, attributes={**annotation.attributes, "unheard_of": score})
    return [
        *_BYTES,
        (key, changed(annotation, schema_version=2), "unsupported_version"),
        (key, changed(annotation, status="perhaps"), "invalid"),
        (key, None, "impossible"),
        (b"another", encode(replace(annotation, video_id="poisoned")), "impossible"),
        (key, encode(unknown), "impossible"),
        (key, encode(replace(annotation, embedding=b"\0\0")), "impossible"),
        (
            key,
            encode(replace(annotation, embedding=b"\xff\x7f" * (len(annotation.embedding or b"") // 2))),
            "impossible",
        ),
    ]


def review_poison(request: ReviewRequest) -> list[Poison]:
    key = request.upload.video_id.encode()
    other = replace(request.annotation, video_id="another")
    return [
        *_BYTES,
        (key, changed(request, schema_version=2), "unsupported_version"),
        (key, changed(request, attributes=[]), "invalid"),
        (key, None, "impossible"),
        (b"another", encode(request), "impossible"),
        (key, encode(replace(request, annotation=other)), "impossible"),
        (key, encode(replace(request, attributes=("unheard_of",))), "impossible"),
        (key, encode(replace(request, annotation=replace(request.annotation, attributes={}))), "impossible"),
    ]


def with_poison(messages: Sequence[Message], poison: Sequence[Message], chance: Random) -> list[Message]:
    """Both, the poison at random places."""
    mixed = list(messages)
    for message in poison:
        mixed.insert(chance.randrange(len(mixed) + 1), message)
    return mixed


def one(live: Live, topic: str, record_type: type[msgspec.Struct]) -> msgspec.Struct:
    """A good record of a topic."""
    decoder = Decoder(record_type)
    for record in read_topic(live.settings, topic):
        if record.value is not None and record.key is not None and record.key.startswith(b"seed"):
            return decoder.decode(record.value)
    raise AssertionError(f"nothing on {topic}")


def test_poison_of_every_kind_ends_as_a_dead_letter_of_its_kind_on_every_topic(live: Live) -> None:
    chance, plain = Random(5), live.plain("poison")
    watch = Decoder(WatchEvent).decode(plain.watches[0].value or b"")
    kinds: dict[str, list[Poison]] = {
        VIDEO_UPLOADS: upload_poison(plain.shown[0].upload),
        WATCH_EVENTS: watch_poison(watch),
        ANNOTATIONS: annotation_poison(one(live, ANNOTATIONS, Annotation)),
        REVIEW_REQUESTS: review_poison(one(live, REVIEW_REQUESTS, ReviewRequest)),
    }
    bad = {
        topic: [Message(live.settings.topic(topic), key, value) for key, value, _ in poison]
        for topic, poison in kinds.items()
    }
    load = dataclasses.replace(
        plain,
        uploads=with_poison(plain.uploads, bad[VIDEO_UPLOADS], chance),
        watches=with_poison(plain.watches, bad[WATCH_EVENTS], chance),
        others=with_poison(bad[ANNOTATIONS], bad[REVIEW_REQUESTS], chance),
        letters=Letters((topic, kind) for topic, poison in kinds.items() for _, _, kind in poison),
    )
    live.suffer("poison", load, lambda _: load.letters.total())


def test_clocks_that_jump_lose_nothing_and_the_time_of_the_broker_wins(live: Live) -> None:
    chance, name = Random(6), "clocks"
    made = videos(name, 100)
    times = (0, 1, now_ms() - 20 * YEAR_MS, now_ms() - YEAR_MS, now_ms() + 12 * 3_600_000)
    jumped = [replace(shown.upload, uploaded_at_ms=chance.choice(times)) for shown in made]
    plain = live.plain("clocks-watches")
    jumps = (*times, now_ms() + 5 * YEAR_MS, now_ms() + 50 * YEAR_MS)
    decoder = Decoder(WatchEvent)
    watches = [decoder.decode(message.value or b"") for message in plain.watches]
    watches = [
        replace(watch, user_id=f"{name}-{watch.user_id}", watched_at_ms=chance.choice((*jumps, watch.watched_at_ms)))
        for watch in watches
    ]
    load = Load(
        uploads=[Message(live.settings.topic(VIDEO_UPLOADS), u.video_id.encode(), encode(u)) for u in jumped],
        watches=[Message(live.settings.topic(WATCH_EVENTS), w.user_id.encode(), encode(w)) for w in watches],
        videos=ids(made),
    )
    live.suffer(name, load, lambda _: sum(u.uploaded_at_ms in times for u in jumped) + len(watches))

    lists = [Decoder(SessionCandidates).decode(r.value or b"") for r in read_topic(live.settings, SESSION_CANDIDATES)]
    mine = {made.session_id: made for made in lists if made.user_id.startswith(name)}
    assert mine.keys() == {watch.session_id for watch in watches}
    assert all(made.candidates for made in mine.values())
    rows = open_table(live.settings, load_catalogue()).read(["video_id", "seq", "received_at_ms"])
    stored = {row["video_id"]: row for batch in rows for row in batch.to_pylist()}
    for upload in jumped:
        row = stored[upload.video_id]
        assert row["seq"] >> 21 == min(upload.uploaded_at_ms, row["received_at_ms"])


def test_of_uploads_that_come_twice_and_too_late_the_newest_content_stands(live: Live) -> None:
    chance, name = Random(7), "late"
    made = videos(name, 200)
    edited = chance.sample(made, 20)
    edits = [replace(shown.upload, title="Edited", uploaded_at_ms=shown.upload.uploaded_at_ms + 1) for shown in edited]
    messages = upload_messages(live.settings, made)
    topic = live.settings.topic(VIDEO_UPLOADS)
    for edit in edits:  # before or after its original
        messages.insert(chance.randrange(len(messages)), Message(topic, edit.video_id.encode(), encode(edit)))
    for again in chance.sample(messages, len(messages) // 10):
        messages.insert(chance.randrange(len(messages)), again)
    plain = live.plain("late-watches")
    watches = [*plain.watches, *chance.sample(plain.watches, len(plain.watches) // 10)]
    chance.shuffle(watches)
    live.suffer(
        name, Load(uploads=messages, watches=watches, videos=ids(made), shown=made), lambda _: len(messages) - 200
    )

    rows = open_table(live.settings, load_catalogue()).read(["video_id", "uploaded_at_ms"])
    stored = {row["video_id"]: row["uploaded_at_ms"] for batch in rows for row in batch.to_pylist()}
    newest = {shown.upload.video_id: shown.upload.uploaded_at_ms for shown in made}
    newest |= {edit.video_id: edit.uploaded_at_ms for edit in edits}
    assert {video_id: stored[video_id] for video_id in newest} == newest
