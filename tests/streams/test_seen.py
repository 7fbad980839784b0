"""Rows that are remembered are those that would be looked up."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.user_state import UserState, watched_ids, watched_since, with_watched
from streams.seen import SeenRows
from streams.snapshot import Snapshot
from tests.fakes.videos import CATALOGUE, NOW_MS, annotation

MOST = 5


def snapshot(*video_ids: str) -> Snapshot:
    made = Snapshot(CATALOGUE, 8)
    made.apply([annotation(video_id) for video_id in video_ids])
    return made


def state(*video_ids: str, user: str = "u") -> UserState:
    return UserState(
        schema_version=1, applied=0, user_id=user, updated_at_ms=NOW_MS, session_id="s", watches_since_list=0,
        affinities={}, taste=b"", taste_weight=0.0, watched=watched_ids(video_ids),
    )  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 30), max_size=8),
    st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.booleans()), max_size=20),
    st.integers(1, MOST + 1),
)
@example([0, 0, 0, 0, 0, 1], [(1, True, True)], 1)
@example([0, 0, 0, 0, 1], [(1, False, False), (2, True, True)], MOST)
def test_rows_are_those_that_are_looked_up_whatever_was_asked_before(
    first: list[int], turns: list[tuple[int, bool, bool]], most: int
):
    """A turn: which video is watched next, if the state before is asked for again, and if the video is uploaded."""
    videos = snapshot(*(f"video-{i}" for i in range(0, 31, 3)))
    seen = SeenRows(videos)
    now = state(*(f"video-{i}" for i in first))
    for number, again, uploaded in turns:
        before, now = now, replace(now, watched=with_watched(now.watched, f"video-{number}", MOST))
        assert seen.of(now).tolist() == videos.rows(now.seen).tolist()
        if uploaded:
            videos.apply([annotation(f"video-{number}")])
        if again:
            assert seen.of(before).tolist() == videos.rows(before.seen).tolist()
            assert seen.of(before, most).tolist() == videos.rows(before.seen).tolist()[-most:]
        assert seen.of(now).tolist() == videos.rows(now.seen).tolist()


def test_users_are_told_apart_and_forgotten_least_recent_first():
    videos = snapshot("a", "b", "c")
    seen = SeenRows(videos, users=1)
    for user, video in (("x", "a"), ("y", "b"), ("x", "c")):
        assert seen.of(state(video, user=user)).tolist() == [videos.row(video)]


def test_rows_with_new_numbers_are_looked_up_again():
    class Renumbered(Snapshot):
        shift = 0

        def find(self, video_ids):
            return super().find(video_ids) + self.shift

    videos = Renumbered(CATALOGUE, 8)
    videos.apply([annotation("a"), annotation("b")])
    seen = SeenRows(videos)
    assert seen.of(state("a", "b")).tolist() == [0, 1]
    videos.shift = 5
    assert seen.of(state("a", "b")).tolist() == [0, 1], "remembered"
    seen.clear()
    assert seen.of(state("a", "b")).tolist() == [5, 6]


def test_what_was_watched_since_is_told_from_the_ends_alone():
    before = watched_ids(f"video-{i}" for i in range(500))
    after = with_watched(with_watched(before, "new-1", 500), "new-2", 500)
    assert watched_since(after, before) == (2, ("new-1", "new-2"))
    assert watched_since(before, before) == (0, ())
    assert watched_since(before, watched_ids(())) == (0, tuple(f"video-{i}" for i in range(500)))
    assert watched_since(watched_ids(["other"]), before) is None
    assert watched_since(with_watched(before, "video-499", 500), before) == (0, ()), "a loop is there once"
    assert watched_since(watched_ids(["a" * 200, "b"]), watched_ids(["a" * 200])) == (0, ("b",))
