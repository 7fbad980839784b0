"""The annotate stage with the student that ships."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from models.bundle import default_bundle
from models.student import Student
from schemas.annotation import Annotation, ReviewRequest
from schemas.attributes import load_catalogue
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from streams.annotate import AnnotateStage
from streams.record import Effects, Headers, Record
from streams.uploads import RECEIVED_HEADER

NOW_MS = 1_750_000_000_000
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def stage() -> Iterator[AnnotateStage]:
    made = AnnotateStage(
        Student.load(default_bundle(), load_catalogue()),
        annotations="annotations",
        review_requests="review-requests",
        dead_letters="dead-letters",
    )
    yield made
    asyncio.run(made.close())


def upload(video_id: str, title: str, uploaded_at_ms: int = NOW_MS - 1_000) -> bytes:
    return encode(
        VideoUpload(schema_version=1, video_id=video_id, creator_id="c", uploaded_at_ms=uploaded_at_ms, title=title)
    )


def record(key: str, value: bytes | None, offset: int = 0, timestamp_ms: int = NOW_MS, headers: Headers = ()) -> Record:
    return Record("video-uploads", 0, offset, timestamp_ms, key.encode(), value, headers)


def annotations(effects: Effects) -> dict[str, Annotation]:
    decoder = Decoder(Annotation)
    made = [decoder.decode(m.value) for m in effects.messages if m.topic == "annotations" and m.value is not None]
    assert len(made) == len({annotation.video_id for annotation in made})
    return {annotation.video_id: annotation for annotation in made}


def requests(effects: Effects) -> list[ReviewRequest]:
    decoder = Decoder(ReviewRequest)
    return [decoder.decode(m.value) for m in effects.messages if m.topic == "review-requests" and m.value is not None]


async def test_every_upload_is_annotated_with_all_attributes_scores_bands_and_a_unit_embedding(
    stage: AnnotateStage,
) -> None:
    effects = await stage.run([record("a", upload("a", "I love my grandma so much")), record("b", upload("b", ""))])
    made = annotations(effects)
    assert set(made) == {"a", "b"}
    for annotation in made.values():
        assert tuple(annotation.attributes) == load_catalogue().ids
        assert annotation.embedding is not None
        vector = np.frombuffer(annotation.embedding, "<f2").astype(np.float32)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-2)
        assert annotation.student is not None
        assert (annotation.received_at_ms, annotation.content_ms) == (NOW_MS, NOW_MS - 1_000)
    assert made["a"].attributes["heartwarming"].label is True


async def test_what_is_uncertain_is_provisional_and_asked_in_one_request(stage: AnnotateStage) -> None:
    titles = [title for attribute in load_catalogue().attributes for title in attribute.positive_examples]
    effects = await stage.run([record(f"v{i}", upload(f"v{i}", title), i) for i, title in enumerate(titles)])
    asked = {request.upload.video_id: request for request in requests(effects)}
    assert asked, "none of these is uncertain to this student: choose others"
    for video_id, annotation in annotations(effects).items():
        open_ = tuple(name for name, score in annotation.attributes.items() if score.label is None)
        assert annotation.status == ("provisional" if open_ else "final")
        assert (video_id in asked) == bool(open_)
        if open_:
            assert asked[video_id].attributes == open_
            assert asked[video_id].annotation == annotation


async def test_a_record_without_value_removes_the_video_whatever_came_before_in_the_run(stage: AnnotateStage) -> None:
    effects = await stage.run([record("a", upload("a", "first"), 0), record("a", None, 1, NOW_MS + 5)])
    removed = annotations(effects)["a"]
    assert (removed.status, removed.content_ms, removed.embedding) == ("removed", NOW_MS + 5, None)
    assert requests(effects) == []


async def test_a_fast_clock_does_not_outrank_the_take_down_that_follows(stage: AnnotateStage) -> None:
    fast = annotations(await stage.run([record("a", upload("a", "x", NOW_MS + 60_000))]))["a"]
    removed = annotations(await stage.run([record("a", None, 1, NOW_MS + 10)]))["a"]
    late_final = annotations(await stage.run([record("a", upload("a", "x", NOW_MS + 60_000))]))["a"]
    assert fast.seq < removed.seq
    assert late_final.seq < removed.seq


@pytest.mark.parametrize(
    ("header", "winner"),
    [
        (str(NOW_MS - 60_000).encode(), "final"),  # a replay of one from before the upload
        (str(NOW_MS + 5).encode(), "removed"),  # of one from after it
        (str(NOW_MS + 99_000).encode(), "removed"),  # nobody gets into the future by it
        (b"yesterday", "removed"),
        (None, "removed"),
    ],
)
async def test_a_take_down_that_is_sent_again_counts_from_when_it_came_first(
    stage: AnnotateStage, header: bytes | None, winner: str
) -> None:
    kept = annotations(await stage.run([record("a", upload("a", "x"))]))["a"]
    again = record("a", None, 1, NOW_MS + 10, ((RECEIVED_HEADER, header),))
    removed = annotations(await stage.run([again]))["a"]
    assert removed.content_ms <= NOW_MS + 10
    assert ("removed" if removed.seq > kept.seq else "final") == winner
    both = annotations(await stage.run([record("a", upload("a", "x")), again]))["a"]
    assert (both.status == "removed") == (winner == "removed")


async def test_the_newest_content_of_a_video_wins_within_a_run(stage: AnnotateStage) -> None:
    older, newer = upload("a", "older", NOW_MS - 9), upload("a", "newer", NOW_MS - 3)
    made = annotations(await stage.run([record("a", newer, 0), record("a", older, 1)]))["a"]
    assert made.uploaded_at_ms == NOW_MS - 3


@pytest.mark.parametrize(
    ("bad", "kind", "says"),
    [
        (record("a", b"\xff\xfe{"), "undecodable", ""),
        (record("a", b'{"schema_version":1'), "undecodable", ""),
        (record("a", b'{"schema_version":1,"video_id":"a","creator_id":"c"}'), "invalid", "uploaded_at_ms"),
        (record("a", upload("a", "t").replace(b'"creator_id":"c"', b'"creator_id":7')), "invalid", "creator_id"),
        (record("a", upload("a", "t").replace(b'version":1', b'version":9')), "unsupported_version", "9"),
        (record("b", upload("a", "t")), "impossible", "key by video_id"),
        (record("", upload("a", "t")), "impossible", "has no key"),
        (record("a", upload("a", "t", NOW_MS + 2 * DAY_MS)), "impossible", "epoch milliseconds"),
        (record("a", upload("a", "t"), timestamp_ms=-1), "impossible", "timestamp"),
    ],
)
async def test_a_bad_record_is_refused_with_its_kind_and_its_neighbours_are_not(
    stage: AnnotateStage, bad: Record, kind: str, says: str
) -> None:
    effects = await stage.run([record("ok", upload("ok", "fine")), bad, record("ok2", upload("ok2", "fine"))])
    assert set(annotations(effects)) == {"ok", "ok2"}
    ((refused, error),) = effects.refused
    assert refused == bad
    assert error.kind == kind
    assert says in str(error)
