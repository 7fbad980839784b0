"""Certified bands on students whose true precision and recall are known exactly.

A student says one of 101 probabilities; 2 % of the texts are positive, or as many as `prevalence` says. The share of
texts and of positives at each probability is known, so that a band's true rates are sums.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from models.band_path import Rates, tally
from models.cascade import BandLimits
from models.certify import Calibration, CertifiedBand, certify, draw_answers, lay_paths
from models.rate_test import p_values
from schemas.errors import ConfigurationError

Floats = NDArray[np.float64]

TARGET, PERFECT = Rates(0.80, 0.70), Rates(1.0, 1.0)
DELTA = 0.1
GRID = np.arange(101) / 100


@dataclass(frozen=True)
class World:
    """How probable each point of `GRID` is, and how probable a positive is there."""

    mass: Floats
    chance: Floats

    def draw(self, n: int, attributes: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int8]]:
        at = rng.choice(len(GRID), size=(n, attributes), p=self.mass)
        return GRID[at], (rng.random((n, attributes)) < self.chance[at]).astype(np.int8)

    def rates(self, limits: BandLimits, teacher: Rates) -> tuple[float, float]:
        """Return the cascade's true precision and recall."""
        positives = self.mass * self.chance
        prevalence = positives.sum()
        false_rate = teacher.recall * prevalence * (1 / teacher.precision - 1) / (1 - prevalence)
        accepted = limits.hi <= GRID
        asked = (limits.lo <= GRID) & ~accepted
        hits = positives[accepted].sum() + teacher.recall * positives[asked].sum()
        false = (self.mass - positives)[accepted].sum() + false_rate * (self.mass - positives)[asked].sum()
        return hits / (hits + false), hits / prevalence


def world(prevalence: float = 0.05, sharpness: float = 6.0) -> World:
    score = np.linspace(-3, 3, len(GRID))
    mass = np.exp(-((score + 1.5) ** 2))
    mass /= mass.sum()
    offsets = np.linspace(-20, 20, 4_001)
    chances = 1 / (1 + np.exp(-(sharpness / 2 * score[None] - offsets[:, None])))
    best = int(np.argmin(np.abs(chances @ mass - prevalence)))
    return World(mass, chances[best])


def bands_of(
    truth: World, n: int, attributes: int, teacher: Rates, seed: int, target: Rates = TARGET
) -> tuple[CertifiedBand, ...]:
    rng = np.random.default_rng(seed)
    pilot_p, pilot_labels = truth.draw(3_000, attributes, rng)
    p, labels = truth.draw(n, attributes, rng)
    paths = lay_paths(pilot_p, pilot_labels, [target] * attributes, [teacher] * attributes, n)
    answers = draw_answers(labels, [teacher] * attributes, rng)
    return certify(Calibration(p, labels, answers), paths, DELTA)


def broken(truth: World, bands: tuple[CertifiedBand, ...], teacher: Rates, target: Rates = TARGET) -> NDArray[np.bool_]:
    rates = [truth.rates(band.limits, teacher) for band in bands]
    return np.array(
        [
            band.certified and (precision < target.precision or recall < target.recall)
            for band, (precision, recall) in zip(bands, rates, strict=True)
        ]
    )


def at_most(delta: float, trials: int) -> float:
    """Return what a true share of `delta` stays below but in one of a thousand cases."""
    return delta + 3.1 * float(np.sqrt(delta * (1 - delta) / trials))


@pytest.mark.parametrize("n", [300, 2_000])
@pytest.mark.parametrize(
    ("teacher", "target"), [(PERFECT, TARGET), (Rates(0.85, 0.78), Rates(0.75, 0.60)), (Rates(0.80, 0.70), TARGET)]
)
def test_a_certified_band_misses_its_true_targets_no_more_often_than_delta(n: int, teacher: Rates, target: Rates):
    truth = world()
    bands = bands_of(truth, n, 300, teacher, seed=5, target=target)
    assert broken(truth, bands, teacher, target).mean() <= at_most(DELTA, 300)


def test_a_misleading_pilot_costs_llm_calls_and_no_guarantee():
    truth, other = world(), world(prevalence=0.3, sharpness=1.0)
    rng = np.random.default_rng(8)
    attributes, n = 200, 2_000
    paths = lay_paths(*other.draw(3_000, attributes, rng), [TARGET] * attributes, [PERFECT] * attributes, n)
    p, labels = truth.draw(n, attributes, rng)
    misled = certify(Calibration(p, labels, labels), paths, DELTA)
    assert broken(truth, misled, PERFECT).mean() <= at_most(DELTA, attributes)
    informed = bands_of(truth, n, attributes, PERFECT, seed=8)
    assert np.mean([band.asked for band in misled]) > np.mean([band.asked for band in informed])


def test_point_estimates_on_the_same_texts_miss_far_more_often():
    truth = world()
    p, labels = truth.draw(2_000, 100, np.random.default_rng(5))
    missed = 0
    for a in range(100):
        positive = labels[:, a].astype(np.float64)
        bands = tally(p[:, a], positive, positive, positive)
        meets = (bands.precision() >= TARGET.precision) & (bands.recall() >= TARGET.recall)
        best = int(np.argmin(np.where(meets, bands.asked, np.inf)))
        precision, recall = truth.rates(BandLimits(float(bands.lo[best]), float(bands.hi[best])), PERFECT)
        missed += precision < TARGET.precision or recall < TARGET.recall
    assert missed > 30


def test_more_texts_and_a_sharper_student_ask_the_llm_less():
    asked = {
        (n, sharpness): np.mean([b.asked for b in bands_of(world(sharpness=sharpness), n, 30, PERFECT, seed=6)])
        for n, sharpness in [(1_000, 4.0), (8_000, 4.0), (8_000, 12.0)]
    }
    assert asked[1_000, 4.0] > asked[8_000, 4.0] > asked[8_000, 12.0]


def test_an_llm_worse_than_the_targets_certifies_nothing_where_the_student_knows_nothing():
    blind = World(np.full(len(GRID), 1 / len(GRID)), np.full(len(GRID), 0.05))
    bands = bands_of(blind, 4_000, 50, Rates(0.70, 0.60), seed=7)
    assert sum(band.certified for band in bands) <= 50 * at_most(DELTA, 50)


def test_a_sharp_student_makes_up_for_an_llm_below_the_targets():
    bands = bands_of(world(sharpness=20.0), 8_000, 10, Rates(0.70, 0.60), seed=7)
    assert all(band.certified for band in bands)


def test_a_handful_of_positives_proves_nothing():
    rng = np.random.default_rng(3)
    p = rng.random((400, 1))
    labels = np.zeros((400, 1), np.int8)
    labels[:4] = 1
    paths = lay_paths(*world().draw(3_000, 1, rng), [TARGET], [PERFECT], 400)
    (band,) = certify(Calibration(p, labels, labels), paths, DELTA)
    assert not band.certified
    assert band.positives == 4


def test_without_a_single_label_an_attribute_is_uncertified_and_still_has_a_band():
    rng = np.random.default_rng(3)
    p, _ = world().draw(100, 1, rng)
    unknown = np.full((100, 1), -1, np.int8)
    paths = lay_paths(*world().draw(3_000, 1, rng), [TARGET], [PERFECT], 100)
    (band,) = certify(Calibration(p, unknown, unknown), paths, DELTA)
    assert (band.certified, band.positives, band.precision, band.recall, band.asked) == (False, 0, None, None, None)
    assert 0 <= band.limits.lo <= band.limits.hi <= 1


def test_texts_without_a_label_count_for_nothing():
    rng = np.random.default_rng(4)
    p, labels = world().draw(2_000, 1, rng)
    paths = lay_paths(*world().draw(3_000, 1, rng), [TARGET], [PERFECT], 2_000)
    more_p, unknown = np.vstack([p, p]), np.vstack([labels, np.full_like(labels, -1)])
    alone = certify(Calibration(p, labels, labels), paths, DELTA)
    assert certify(Calibration(more_p, unknown, unknown), paths, DELTA) == alone


def test_the_llms_errors_on_these_very_texts_count():
    truth, rng = world(), np.random.default_rng(9)
    p, labels = truth.draw(6_000, 1, rng)
    paths = lay_paths(*truth.draw(3_000, 1, rng), [TARGET], [PERFECT], 6_000)
    wrong_where_asked = labels.copy()
    wrong_where_asked[(p < 0.8) & (labels == 1)] = 0
    right, wrong = (certify(Calibration(p, labels, said), paths, DELTA)[0] for said in (labels, wrong_where_asked))
    assert right.certified
    assert not wrong.certified


def test_texts_sampled_unevenly_certify_by_their_weights():
    truth, attributes, n = world(), 150, 4_000
    rng = np.random.default_rng(10)
    paths = lay_paths(*truth.draw(3_000, attributes, rng), [TARGET] * attributes, [PERFECT] * attributes, n)
    p, labels = truth.draw(3 * n, attributes, rng)
    # Likely texts are all labelled, of the others a third: unweighted, recall looks better than it is.
    kept = rng.random(p.shape) < np.where(p > 0.5, 1.0, 1 / 3)
    weights = np.where(p > 0.5, 1.0, 3.0)
    sampled = np.where(kept, labels, -1).astype(np.int8)
    bands = certify(Calibration(p, sampled, sampled, weights), paths, DELTA)
    assert broken(truth, bands, PERFECT).mean() <= at_most(DELTA, attributes)
    assert np.mean([band.certified for band in bands]) > 0.9


def test_the_binomial_test_is_exact():
    # Of 4 counted, all hit: 0.7^4 = .2401 under the worst rate that is still below target.
    hit = np.array([[True, True, True, True, False]])
    counted = np.array([[True, True, True, True, False]])
    assert p_values(hit, counted, 0.7)[0] == pytest.approx(0.7**4)
    assert p_values(np.zeros((1, 5), np.bool_), counted, 0.7)[0] == 1.0
    assert p_values(hit, np.zeros((1, 5), np.bool_), 0.7)[0] == 1.0


def test_a_rate_far_below_its_target_is_never_rejected_however_many_texts():
    hit, counted = np.zeros((1, 20_000), np.bool_), np.ones((1, 20_000), np.bool_)
    weights = np.repeat([1.0, 2.0], 10_000)
    assert p_values(hit, counted, 0.7, weights)[0] == p_values(hit, counted, 0.7)[0] == 1.0


@pytest.mark.parametrize("weighted", [False, True])
def test_rates_at_their_target_are_rejected_no_more_often_than_delta(weighted: bool):
    rng = np.random.default_rng(11)
    hit, counted = rng.random((2_000, 400)) < 0.7, rng.random((2_000, 400)) < 0.5
    weights = rng.choice([1.0, 4.0], 400) if weighted else None
    assert (p_values(hit, counted, 0.7, weights) <= DELTA).mean() <= at_most(DELTA, 2_000)


def test_a_rate_well_above_its_target_is_found_with_and_without_weights():
    rng = np.random.default_rng(12)
    hit, counted = rng.random((200, 1_000)) < 0.85, np.ones((200, 1_000), np.bool_)
    for weights in (None, rng.choice([1.0, 3.0], 1_000)):
        assert (p_values(hit, counted, 0.7, weights) <= DELTA).mean() > 0.95


def test_drawn_answers_have_the_rates_asked_for_and_none_where_nothing_is_known():
    labels = (np.random.default_rng(1).random((40_000, 1)) < 0.1).astype(np.int8)
    labels[:100] = -1
    said = draw_answers(labels, [Rates(0.85, 0.78)], np.random.default_rng(2))
    assert (said[:100] == -1).all()
    assert (labels[said == 1] == 1).mean() == pytest.approx(0.85, abs=0.02)
    assert (said[labels == 1] == 1).mean() == pytest.approx(0.78, abs=0.02)


def test_arrays_that_do_not_fit_are_refused_with_their_shapes():
    p, labels = world().draw(50, 2, np.random.default_rng(1))
    paths = lay_paths(p, labels, [TARGET] * 2, [PERFECT] * 2, 50)
    with pytest.raises(ConfigurationError, match=r"\(50, 2\)"):
        certify(Calibration(p, labels, labels[:40]), paths)
    with pytest.raises(ConfigurationError, match="3 paths"):
        certify(Calibration(p, labels, labels), [*paths, paths[0]])
    with pytest.raises(ConfigurationError, match="weight"):
        certify(Calibration(p, labels, labels, np.zeros_like(p)), paths)
    with pytest.raises(ConfigurationError, match="1 targets"):
        lay_paths(p, labels, [TARGET], [PERFECT] * 2, 50)
    with pytest.raises(ConfigurationError, match=r"columns \[1\]"):
        lay_paths(p, np.array([[0, -1]] * 50, np.int8), [TARGET] * 2, [PERFECT] * 2, 50)
