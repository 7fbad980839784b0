import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.filters import CreatorCap, apply_filters, policy, seen, too_old, unavailable
from streams.snapshot import Snapshot
from tests.fakes.videos import CATALOGUE, DIM, NOW_MS, annotation, removal


def snapshot_of(*annotations) -> Snapshot:
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply(annotations)
    return snapshot


def all_rows(snapshot: Snapshot) -> np.ndarray:
    return np.arange(len(snapshot))


def test_taken_down_videos_and_those_without_a_vector_are_unavailable():
    snapshot = snapshot_of(annotation("a"), annotation("b", has_vector=False), annotation("c"), removal("c"))
    filtered = unavailable(snapshot, all_rows(snapshot))
    assert filtered.kept.tolist() == [0]
    assert filtered.removed.tolist() == [1, 2]
    assert filtered.reason == "unavailable"


@pytest.mark.parametrize(("label", "kept"), [(False, 1), (True, 0), (None, 0)])
def test_only_a_policy_attribute_that_is_decided_absent_lets_a_video_through(label: bool | None, kept: int):
    snapshot = snapshot_of(annotation("a", {"hostile": label}, p=0.0))
    assert len(policy(snapshot, all_rows(snapshot)).kept) == kept


def test_a_policy_attribute_that_was_never_scored_keeps_a_video_out():
    video = annotation("a")
    video.attributes.clear()
    snapshot = snapshot_of(video)
    assert len(policy(snapshot, all_rows(snapshot)).kept) == 0


def test_age_is_counted_from_the_upload():
    snapshot = snapshot_of(annotation("a", uploaded_at_ms=NOW_MS - 11), annotation("b", uploaded_at_ms=NOW_MS - 10))
    assert too_old(NOW_MS - 10)(snapshot, all_rows(snapshot)).kept.tolist() == [1]


def test_seen_videos_are_removed_and_unknown_ids_do_no_harm():
    snapshot = snapshot_of(annotation("a"), annotation("b"), annotation("c"))
    filtered = seen(["b", "gone"])(snapshot, np.array([2, 1]))
    assert filtered.kept.tolist() == [2]
    assert filtered.removed.tolist() == [1]


def test_each_removed_video_counts_for_the_first_filter_that_removes_it():
    snapshot = snapshot_of(annotation("a", has_vector=False), annotation("b", {"hostile": None}), annotation("c"))
    rows, removed = apply_filters(snapshot, all_rows(snapshot), [unavailable, policy, seen(["a", "b"])])
    assert rows.tolist() == [2]
    assert removed == {"unavailable": 1, "policy": 1, "seen": 0}


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=60), st.integers(1, 3), st.integers(1, 10))
def test_no_window_of_places_holds_too_many_of_one_creator(creators: list[int], limit: int, window: int):
    cap = CreatorCap(np.array(creators, np.int32), limit, window)
    placed = []
    for row in range(len(creators)):
        if cap.admits(row):
            cap.place(row)
            placed.append(creators[row])
    for start in range(len(placed)):
        within = placed[start : start + window]
        assert all(within.count(creator) <= limit for creator in within if creator >= 0)
    assert cap.removed == len(creators) - len(placed)


def test_a_refused_video_may_be_placed_once_the_window_moved_on():
    cap = CreatorCap(np.array([0, 0, 1], np.int32), limit=1, window=2)
    cap.place(0)
    assert not cap.admits(1)
    cap.place(2)
    assert cap.admits(1)
    cap.place(1)
    assert cap.removed == 0
