"""What the page remembers of the flow."""

from schemas.candidates import Candidate, SessionCandidates
from schemas.events import VideoUpload
from schemas.wire import encode
from streams.record import Record
from tests.fakes.videos import NOW_MS, annotation, removal
from topology.topics import ANNOTATIONS, SESSION_CANDIDATES, VIDEO_UPLOADS, WATCH_EVENTS
from topology.ui.recent import VIDEOS, Recent
from topology.ui.timeline import KEPT_S, Counts, Latencies


def record(value: bytes | None, at_ms: int = NOW_MS) -> Record:
    return Record("t", 0, 0, at_ms, None, value)


def upload(video_id: str, title: str = "") -> bytes:
    return encode(VideoUpload(schema_version=1, video_id=video_id, creator_id="c", uploaded_at_ms=NOW_MS, title=title))


def test_the_oldest_videos_give_way():
    recent = Recent()
    recent.add(VIDEO_UPLOADS, [record(upload(f"v{n}")) for n in range(VIDEOS + 10)])
    assert recent.upload("v9") is None
    assert recent.upload("v10") is not None
    assert recent.counts[VIDEO_UPLOADS].total == VIDEOS + 10


def test_annotations_of_a_video_are_in_the_order_of_their_seq_whatever_came_first():
    recent = Recent()
    final, taken_down = annotation("v", {"calm": True}), removal("v")
    recent.add(ANNOTATIONS, [record(encode(taken_down)), record(encode(final))])
    assert recent.annotations("v") == (final, taken_down)
    assert [one.video_id for one, _ in recent.latest(5)] == ["v"]


def test_videos_are_found_by_words_of_their_text():
    recent = Recent()
    recent.add(VIDEO_UPLOADS, [record(upload("v1", "A cosy Kitchen")), record(upload("v2", "An attic"))])
    recent.add(ANNOTATIONS, [record(encode(annotation("v1"))), record(encode(annotation("v2")))])
    assert [one.video_id for one, _ in recent.latest(5, "kitchen COSY")] == ["v1"]
    assert recent.latest(5, "kitchen attic") == []


def test_latencies_run_from_upload_to_annotation_and_from_watch_to_list():
    recent = Recent()
    made = SessionCandidates(
        schema_version=1, session_id="s", user_id="u", event_id="e", emitted_at_ms=NOW_MS,
        candidates=(Candidate("v", 0.5, "popular"),), quotas={}, removed={}, fallback="none",
    )  # fmt: skip
    recent.add(WATCH_EVENTS, [record(b'{"event_id": "e"}', NOW_MS)])
    recent.add(SESSION_CANDIDATES, [record(encode(made), NOW_MS + 40)])
    recent.add(ANNOTATIONS, [record(encode(annotation("v", received_at_ms=NOW_MS)), NOW_MS + 250)])
    assert recent.listed.quantile(NOW_MS + 500, 0.5) == 40
    assert recent.annotated.quantile(NOW_MS + 500, 0.99) == 250
    assert recent.session("s") == made


def test_what_can_t_be_read_is_counted_and_passed_over():
    recent = Recent()
    recent.add(VIDEO_UPLOADS, [record(b"no json"), record(None), record(upload("v"))])
    assert recent.counts[VIDEO_UPLOADS].total == 3
    assert recent.upload("v") is not None


def test_rates_are_of_whole_seconds_and_old_ones_are_forgotten():
    counts, latencies = Counts(), Latencies()
    for second in range(20):
        for _ in range(3):
            counts.add(NOW_MS + 1000 * second)
    latencies.add(NOW_MS, 7.0)
    at = NOW_MS + 20_000
    assert counts.rate(at) == 3.0
    assert [value for _, value in counts.points(at)][-20:] == [3.0] * 20
    assert latencies.points(at, 0.5) == [(-20.0, 7.0)]
    later = at + 1000 * (KEPT_S + 1)
    assert (counts.rate(later), latencies.points(later, 0.5)) == (0.0, [])
    assert sum(value for _, value in counts.points(later)) == 0
