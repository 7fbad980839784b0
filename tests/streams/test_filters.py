import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.blend import CREATOR_CAP, NEAR_DUPLICATE, Limits, Offers, blend
from streams.filters import refusals


def blended(creators: list[int], limit: int, window: int) -> tuple[list[int], dict[str, int]]:
    """Return what one pool of videos in order becomes, and what was refused."""
    n = len(creators)
    offers = Offers(
        vectors=np.zeros((n, 4), np.float32), has=np.zeros((n, 1), np.bool_), creators=np.array(creators, np.int32),
        members=np.arange(n), scores=-np.arange(n, dtype=np.float32), rungs=np.zeros(n, np.uint8),
        bounds=np.array([0, n]), places=np.array([n]), shares=np.zeros(1, np.float32),
    )  # fmt: skip
    chosen, pools, refused = np.empty(n, np.int64), np.empty(n, np.int64), np.zeros(n, np.uint8)
    count = blend(offers, Limits(n, limit, window, 1.0, 1.0, 0.0, 8), chosen, pools, refused)
    return chosen[:count].tolist(), refusals(refused)


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=60), st.integers(1, 3), st.integers(1, 10))
def test_no_window_of_places_holds_too_many_of_one_creator(creators: list[int], limit: int, window: int):
    places, removed = blended(creators, limit, window)
    placed = [creators[place] for place in places]
    for start in range(len(placed)):
        within = placed[start : start + window]
        assert all(within.count(creator) <= limit for creator in within if creator >= 0)
    assert removed.get("creator_cap", 0) == len(creators) - len(placed)


def test_a_refused_video_may_be_placed_once_the_window_moved_on():
    assert blended([0, 0, 1], limit=1, window=2) == ([0, 2, 1], {})


def test_refusals_are_counted_by_reason():
    refused = np.array([0, CREATOR_CAP, NEAR_DUPLICATE, NEAR_DUPLICATE], np.uint8)
    assert refusals(refused) == {"creator_cap": 1, "near_duplicate": 2}
