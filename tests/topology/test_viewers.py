from collections import defaultdict
from itertools import pairwise

import pytest

from schemas.events import WatchEvent
from schemas.wire import Decoder, encode
from topology.demo.content import DemoUpload, load_uploads
from topology.demo.viewers import Viewer, make_viewers, watch_events

NOW_MS = 1_780_000_000_000
SEED = 7
COUNT = 5_000


@pytest.fixture(scope="module")
def uploads() -> list[DemoUpload]:
    return load_uploads(NOW_MS)


@pytest.fixture(scope="module")
def events(uploads: list[DemoUpload]) -> list[WatchEvent]:
    return list(watch_events(uploads, COUNT, SEED, NOW_MS))


@pytest.fixture(scope="module")
def viewers(uploads: list[DemoUpload]) -> dict[str, Viewer]:
    return {viewer.user_id: viewer for viewer in make_viewers(uploads, 150, SEED)}


def by_session(events: list[WatchEvent]) -> dict[str, list[WatchEvent]]:
    sessions: dict[str, list[WatchEvent]] = defaultdict(list)
    for event in events:
        sessions[event.session_id].append(event)
    return sessions


def visit_of(events: list[WatchEvent]) -> dict[str, int]:
    """Which visit of its user a session is, counted from 0 in order of time."""
    seen: dict[str, list[str]] = defaultdict(list)
    for event in events:
        if event.session_id not in seen[event.user_id]:
            seen[event.user_id].append(event.session_id)
    return {session: visit for sessions in seen.values() for visit, session in enumerate(sessions)}


def finish_rate(events: list[WatchEvent]) -> float:
    return sum(event.watch_ms >= 0.8 * event.duration_ms for event in events) / len(events)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 21, 24, 25, 777, 12_000])
def test_the_stream_is_exactly_as_long_as_asked(uploads: list[DemoUpload], count: int) -> None:
    assert sum(1 for _ in watch_events(uploads, count, SEED, NOW_MS)) == count


def test_the_same_seed_gives_the_same_stream_and_another_seed_another(
    uploads: list[DemoUpload], events: list[WatchEvent]
) -> None:
    assert list(watch_events(uploads, COUNT, SEED, NOW_MS)) == events
    assert list(watch_events(uploads, COUNT, SEED + 1, NOW_MS)) != events


def test_watches_come_in_order_of_time_and_never_after_now(events: list[WatchEvent]) -> None:
    times = [event.watched_at_ms for event in events]
    assert times == sorted(times)
    assert times[-1] <= NOW_MS


def test_event_ids_are_unique_also_across_seeds(uploads: list[DemoUpload], events: list[WatchEvent]) -> None:
    others = list(watch_events(uploads, COUNT, SEED + 1, NOW_MS))
    assert len({event.event_id for event in [*events, *others]}) == 2 * COUNT


def test_every_event_survives_the_wire(events: list[WatchEvent]) -> None:
    decoder = Decoder(WatchEvent)
    assert all(decoder.decode(encode(event)) == event for event in events)


def test_only_videos_that_are_already_uploaded_are_watched(uploads: list[DemoUpload], events: list[WatchEvent]) -> None:
    videos = {shown.upload.video_id: shown.upload for shown in uploads}
    for event in events:
        video = videos[event.video_id]
        assert video.uploaded_at_ms <= event.watched_at_ms - event.watch_ms
        assert event.watch_ms <= event.duration_ms == video.duration_ms


def test_a_session_has_5_to_20_watches_of_different_videos_by_one_user(events: list[WatchEvent]) -> None:
    for session in by_session(events).values():
        assert 5 <= len(session) <= 20
        assert len({event.video_id for event in session}) == len(session)
        assert len({event.user_id for event in session}) == 1


def test_a_user_finishes_one_watch_before_the_next(events: list[WatchEvent]) -> None:
    watches: dict[str, list[WatchEvent]] = defaultdict(list)
    for event in events:
        watches[event.user_id].append(event)
    for history in watches.values():
        assert all(later.watched_at_ms - later.watch_ms > earlier.watched_at_ms for earlier, later in pairwise(history))


def test_about_150_users_watch_and_most_come_back(events: list[WatchEvent]) -> None:
    visits = visit_of(events)
    assert len({event.user_id for event in events}) == 150
    assert sum(visit > 0 for visit in visits.values()) >= 100


def test_some_viewers_come_back_in_another_mood(viewers: dict[str, Viewer]) -> None:
    changed = [viewer for viewer in viewers.values() if viewer.taste(0) != viewer.taste(1)]
    assert 20 <= len(changed) <= 75
    assert all(1 <= len(taste) <= 3 for viewer in viewers.values() for taste in viewer.tastes)


def test_who_likes_a_mood_finishes_its_videos_more_often_than_others(
    uploads: list[DemoUpload], events: list[WatchEvent], viewers: dict[str, Viewer]
) -> None:
    moods = {shown.upload.video_id: shown.moods for shown in uploads}
    visits = visit_of(events)
    for mood in ("funny", "melancholic", "eerie", "curious", "deadpan", "heartwarming"):
        of_mood = [event for event in events if mood in moods[event.video_id]]
        fans: list[WatchEvent] = []
        others: list[WatchEvent] = []
        for event in of_mood:
            taste = viewers[event.user_id].taste(visits[event.session_id])
            (fans if mood in taste else others).append(event)
        assert finish_rate(fans) > finish_rate(others) + 0.15


def test_likes_and_shares_go_to_what_fits_the_taste_and_dislikes_never_do(
    uploads: list[DemoUpload], events: list[WatchEvent], viewers: dict[str, Viewer]
) -> None:
    shown = {upload.upload.video_id: upload for upload in uploads}
    visits = visit_of(events)
    fitting = [e for e in events if viewers[e.user_id].likes(shown[e.video_id], visits[e.session_id])]
    fitting_ids = {event.event_id for event in fitting}
    other = [event for event in events if event.event_id not in fitting_ids]
    assert 0.05 < sum(event.liked for event in fitting) / len(fitting) < 0.25
    assert sum(event.liked for event in other) / len(other) < 0.03
    assert any(event.shared for event in fitting)
    assert not any(event.disliked for event in fitting)


def test_too_few_uploads_are_named(uploads: list[DemoUpload]) -> None:
    with pytest.raises(ValueError, match="3 videos are uploaded"):
        list(watch_events(uploads[:3], 100, SEED, NOW_MS))
