import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.satisfaction import satisfaction
from tests.fakes.videos import watch


@pytest.mark.parametrize("feedback", ["liked", "shared", "followed", "commented"])
def test_an_explicit_positive_is_full_satisfaction_however_short_the_play(feedback: str):
    assert satisfaction(watch(watch_ms=100, **{feedback: True})) == 1.0


def test_a_dislike_is_none_even_after_a_full_play():
    assert satisfaction(watch(disliked=True)) == 0.0


@pytest.mark.parametrize(
    ("watch_ms", "duration_ms", "expected"),
    [
        (4_999, 20_000, 0.0),
        (5_000, 20_000, 0.25),
        (3_000, 3_000, 1.0),
        (2_999, 3_000, 0.0),
        (60_000, 20_000, 1.0),
        (0, 0, 0.0),
        (4_999, 0, 0.0),
        (5_000, 0, 1.0),
    ],
)
def test_a_play_counts_by_its_fraction_unless_it_was_a_glance(watch_ms: int, duration_ms: int, expected: float):
    assert satisfaction(watch(watch_ms=watch_ms, duration_ms=duration_ms)) == expected


@given(st.integers(0, 86_400_000), st.integers(0, 86_400_000), st.booleans(), st.booleans())
def test_it_never_leaves_zero_to_one(watch_ms: int, duration_ms: int, liked: bool, disliked: bool):
    event = watch(watch_ms=watch_ms, duration_ms=duration_ms, liked=liked, disliked=disliked)
    assert 0.0 <= satisfaction(event) <= 1.0
