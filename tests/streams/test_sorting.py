import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streams.sorting import descending, highest

SCORES = arrays(
    np.float32,
    st.integers(0, 300),
    elements=st.floats(-4, 4, width=32) | st.sampled_from([-0.0, 0.0, 1.0, np.inf, -np.inf]),
)


def by_numpy(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, kind="stable")


@given(SCORES)
@settings(deadline=None)  # compiled in the first example
def test_the_highest_come_first_and_of_equals_the_earlier(scores: np.ndarray):
    assert descending(scores).tolist() == by_numpy(scores).tolist()


@given(SCORES, st.integers(0, 400))
@settings(deadline=None)
def test_a_part_of_many_is_the_same(scores: np.ndarray, most: int):
    assert highest(scores, most).tolist() == by_numpy(scores)[:most].tolist()


@pytest.mark.parametrize("most", [1, 500, 20_000])
def test_so_it_is_of_many_that_are_much_alike(most: int):
    scores = np.random.default_rng(0).normal(2, 0.1, 20_000).astype(np.float32)
    assert highest(scores, most).tolist() == by_numpy(scores)[:most].tolist()
