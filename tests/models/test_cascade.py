import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.cascade import BandLimits, cheapest_band, decide

BANDS = {"funny": BandLimits(0.2, 0.7), "eerie": BandLimits(0.5, 0.5)}


@pytest.mark.parametrize(
    ("p", "band", "label"),
    [(0.1, "reject", False), (0.25, "uncertain", None), (0.6, "uncertain", None), (0.75, "accept", True)],
)
def test_the_band_decides_the_label(p: float, band: str, label: bool | None):
    score = decide(np.array([p], np.float32), BANDS, ["funny"])["funny"]
    assert (score.band, score.label, score.source) == (band, label, "student")
    assert score.p == pytest.approx(p)


def test_limits_belong_to_the_upper_side():
    scores = decide(np.array([0.5], np.float32), {"a": BandLimits(0.5, 0.75)}, ["a"])
    assert scores["a"].band == "uncertain"
    assert decide(np.array([0.75], np.float32), {"a": BandLimits(0.5, 0.75)}, ["a"])["a"].band == "accept"


def test_a_band_without_width_is_never_uncertain():
    labels = [decide(np.array([p], np.float32), BANDS, ["eerie"])["eerie"].label for p in (0.49, 0.5, 0.51)]
    assert labels == [False, True, True]


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="zip"):
        decide(np.array([0.5], np.float32), BANDS, ["funny", "eerie"])


def test_every_score_says_whether_its_attribute_is_certified():
    scores = decide(np.array([0.9, 0.4], np.float32), BANDS, ["funny", "eerie"], certified={"eerie"})
    assert {name: score.certified for name, score in scores.items()} == {"funny": False, "eerie": True}


@given(
    texts=st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=60),
    precision=st.floats(0.3, 0.99),
    recall=st.floats(0.1, 0.99),
)
def test_a_chosen_band_meets_both_targets_when_the_llm_is_always_right(
    texts: list[tuple[int, bool]], precision: float, recall: float
):
    # Distinct probabilities: limits between two texts of equal p can't part them.
    p = np.array([score / 21 + i / 2_000 for i, (score, _) in enumerate(texts)], np.float32)
    y = np.array([label for _, label in texts])
    lo, hi = cheapest_band(p, y, precision, recall)
    assert 0 <= lo <= hi <= 1
    accepted, asked = p >= hi, (p >= lo) & (p < hi)
    found = (y & (accepted | asked)).sum()
    assert found >= recall * y.sum() - 1e-9
    assert found >= precision * (found + (accepted & ~y).sum()) - 1e-9


def test_a_separable_attribute_asks_nobody():
    p = np.linspace(0, 1, 50, dtype=np.float32)
    lo, hi = cheapest_band(p, p > 0.6, 0.9, 0.9)
    assert lo == hi
    assert ((p >= hi) == (p > 0.6)).all()
