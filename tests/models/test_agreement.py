"""Alpha is checked against PyPI's krippendorff; Dawid-Skene against crowd-kit 1.4.2 and a crowd with known errors."""

import csv
import gzip
from collections import Counter
from pathlib import Path

import krippendorff
import numpy as np
import pytest

from models.agreement import Votes, dawid_skene, krippendorff_alpha, majority

RATINGS = Path(__file__).parents[3] / "shared" / "data" / "emobank_individual_ratings.csv.gz"


def votes(lines: str) -> Votes:
    """An item per word, a rater per character: 1, 0, or - where the rater gave no vote."""
    items = lines.split()
    rows = np.array([(i, r, int(v)) for i, item in enumerate(items) for r, v in enumerate(item) if v != "-"])
    return Votes(rows[:, 0], rows[:, 1], rows[:, 2].astype(bool), len(items), max(map(len, items)))


@pytest.mark.parametrize("labels", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_that_of_the_library_krippendorff(labels: int, seed: int):
    counts = np.random.default_rng(seed).integers(0, 4, (60, labels))
    expected = krippendorff.alpha(value_counts=counts, level_of_measurement="nominal")
    assert krippendorff_alpha(counts) == pytest.approx(expected, abs=1e-12)


@pytest.mark.skipif(not RATINGS.exists(), reason=f"EmoBank's individual ratings are not at {RATINGS}")
@pytest.mark.parametrize("scale", ["V", "A", "D"])
def test_alpha_of_emobank_is_that_of_the_library_krippendorff(scale: str):
    with gzip.open(RATINGS, "rt", encoding="utf-8") as file:
        rated = Counter((row["id"], row["perspective"], row[scale]) for row in csv.DictReader(file))
    items = {item: i for i, item in enumerate({key[:2]: 0 for key in rated})}
    counts = np.zeros((len(items), 5), np.int64)
    for (name, perspective, value), times in rated.items():
        counts[items[name, perspective], int(value) - 1] = times
    expected = krippendorff.alpha(value_counts=counts, level_of_measurement="nominal")
    assert krippendorff_alpha(counts) == pytest.approx(expected, abs=1e-9)
    assert 0 < expected < 0.5


@pytest.mark.parametrize("counts", [[[3, 0], [2, 0]], [[1, 0], [0, 1]], [[0, 0]]])
def test_alpha_is_not_defined_without_a_choice_or_a_second_vote(counts: list[list[int]]):
    assert krippendorff_alpha(np.array(counts)) is None


def test_items_with_a_single_vote_do_not_change_alpha():
    counts = np.array([[2, 1], [0, 3], [3, 0]])
    assert krippendorff_alpha(np.vstack([counts, [[0, 1], [1, 0], [0, 0]]])) == krippendorff_alpha(counts)


def test_a_tie_and_an_item_without_votes_have_no_majority():
    label, share = majority(np.array([[2, 2], [0, 0], [1, 2], [3, 0]]))
    assert label.tolist() == [-1, -1, 1, 0]
    assert share.tolist() == pytest.approx([0.5, 0, 2 / 3, 1])


def test_dawid_skene_is_that_of_crowd_kit():
    crowd = votes(
        "10100 10001 -1011 00010 11111 01100 --100 0-0-1 00-01 00-10 011-1 1011- 00010 10000 -1111 0-000 1-110 -000-"
        " 11111 --000 10111 11000 11101 00101"
    )
    # fmt: off
    by_crowd_kit = [  # DawidSkene(n_iter=400, tol=1e-12).fit(...).probas_[1]; it has no smoothing
        0.02162, 0.03305, 0.68585, 0.00241, 0.98587, 0.02444, 0.02999, 0.05261, 0.02241, 0.01415, 0.72374, 0.70612,
        0.00241, 0.00152, 0.96938, 0.00053, 0.4888, 0.00533, 0.98587, 0.00213, 0.87426, 0.01506, 0.83255, 0.05302,
    ]
    # fmt: on
    found = dawid_skene(crowd, smoothing=1e-12)
    assert found.converged
    np.testing.assert_allclose(found.present, by_crowd_kit, atol=1e-4)
    assert found.prior == pytest.approx(0.31388, abs=1e-4)


def test_known_confusion_matrices_are_recovered_and_beat_the_majority():
    rng = np.random.default_rng(3)
    items, sensitivity, specificity = (
        3000,
        np.array([0.95, 0.9, 0.55, 0.5, 0.6]),
        np.array([0.98, 0.95, 0.7, 0.65, 0.6]),
    )
    truth = rng.random(items) < 0.3
    said = rng.random((items, 5)) < np.where(truth[:, None], sensitivity, 1 - specificity)
    item, rater = (index.ravel() for index in np.indices(said.shape))
    crowd = Votes(item, rater, said.ravel(), items, 5)
    found = dawid_skene(crowd)
    np.testing.assert_allclose(found.confusion[:, 1, 1], sensitivity, atol=0.04)
    np.testing.assert_allclose(found.confusion[:, 0, 0], specificity, atol=0.04)
    assert found.prior == pytest.approx(0.3, abs=0.03)
    by_votes, _ = majority(crowd.counts)
    assert (found.label == truth).mean() > (by_votes == truth).mean() + 0.05


def test_a_rater_with_one_vote_is_hardly_believed_and_changes_no_label():
    crowd = votes("111- 111- 110- 000- 001- 000- 0000 111- 000- 111-")
    alone = votes("111- 111- 110- 000- 001- 000- 0001 111- 000- 111-")
    found, changed = dawid_skene(crowd), dawid_skene(alone)
    assert found.label.tolist() == changed.label.tolist()
    assert 1 / 3 <= changed.confusion[3].min()
    assert changed.confusion[3].max() <= 2 / 3 + 1e-9


def test_an_item_nobody_voted_on_stays_undecided_and_one_sided_votes_are_believed():
    crowd = Votes(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([True] * 4), items=3, raters=2)
    found = dawid_skene(crowd)
    assert found.label.tolist() == [1, 1, -1]
    assert np.isnan(found.present[2])
