import numpy as np
import pytest
from scipy.stats import binomtest

from models.evaluation import Answers, Effort, Truth, calibration_error, compare, equal_mass_bins, evaluate
from models.intervals import clopper_pearson, effective_size, percentile_interval, resampled_sums


def truth_of(*columns: list[int], weight: list[float] | None = None) -> Truth:
    label = np.array(columns, np.int8).T
    weights = np.ones(label.shape) if weight is None else np.repeat(np.array(weight)[:, None], label.shape[1], 1)
    names = tuple(f"a{i}" for i in range(label.shape[1]))
    return Truth("here", [f"v{i}" for i in range(len(label))], names, label, weights)


def answers_of(*columns: list[int], p: np.ndarray | None = None, system: str = "one") -> Answers:
    label = np.array(columns, np.int8).T
    return Answers(system, label, np.full(label.shape, np.nan) if p is None else p, Effort(len(label)))


def test_scores_are_those_counted_by_hand():
    #                     hit hit miss fa  ok
    found = evaluate(truth_of([1, 1, 1, 0, 0]), answers_of([1, 1, 0, 1, 0])).attributes["a0"]
    assert (found.precision, found.recall, found.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3), abs=1e-4)
    assert (found.judged, found.positives, found.predicted) == (5, 3, 3)


def test_what_is_not_known_counts_for_nothing():
    known = evaluate(truth_of([1, 0, 1]), answers_of([1, 1, 0])).attributes["a0"]
    more = evaluate(truth_of([1, 0, 1, -1, -1]), answers_of([1, 1, 0, 1, 0])).attributes["a0"]
    assert (more.judged, more.precision, more.recall, more.f1) == (3, known.precision, known.recall, known.f1)


def test_an_abstention_is_counted_and_misses_what_is_present_but_accuses_nobody():
    found = evaluate(truth_of([1, 1, 0, 0]), answers_of([1, -1, -1, 0]))
    score = found.attributes["a0"]
    assert (found.abstained, score.precision, score.recall) == (2, 1.0, 0.5)


def test_a_video_that_stands_for_two_counts_twice():
    once = evaluate(truth_of([1, 1, 0, 1], weight=[2, 1, 1, 1]), answers_of([1, 0, 1, 1]))
    twice = evaluate(truth_of([1, 1, 1, 0, 1]), answers_of([1, 1, 0, 1, 1]))
    for name in ("precision", "recall", "f1"):
        assert getattr(once.attributes["a0"], name) == getattr(twice.attributes["a0"], name)
    assert once.attributes["a0"].interval_method == "clopper-pearson, effective size"
    assert twice.attributes["a0"].interval_method == "clopper-pearson"


def test_macro_is_the_mean_and_micro_pools():
    found = evaluate(truth_of([1, 1, 0, 0], [1, 0, 0, 0]), answers_of([1, 1, 0, 0], [0, 1, 0, 0]))
    assert found.macro_f1 == pytest.approx(0.5)
    assert found.micro_f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1), abs=1e-4)


def test_an_attribute_without_positives_or_predictions_has_no_f1_and_is_left_out_of_the_mean():
    found = evaluate(truth_of([1, 0], [0, 0]), answers_of([1, 0], [0, 0]))
    assert (found.attributes["a1"].f1, found.attributes["a1"].recall_interval) == (None, None)
    assert (found.macro_f1, found.macro_over) == (1.0, 1)


def test_a_false_find_of_what_is_nowhere_present_lowers_no_mean_of_either_system():
    truth = truth_of([1, 0, 1], [0, 0, 0])
    rash, careful = answers_of([1, 0, 1], [1, 0, 0]), answers_of([1, 0, 1], [0, 0, 0], system="two")
    assert evaluate(truth, rash).macro_f1 == evaluate(truth, careful).macro_f1 == 1.0
    assert compare(truth, rash, careful).macro_f1.delta == 0.0
    assert evaluate(truth, rash).micro_f1 == pytest.approx(0.8)


def test_unequal_weights_widen_the_interval_of_a_share():
    truth, answers = [1] * 40, [1] * 30 + [0] * 10
    even = evaluate(truth_of(truth), answers_of(answers)).attributes["a0"].recall_interval
    uneven = evaluate(truth_of(truth, weight=[9] * 3 + [1] * 37), answers_of(answers)).attributes["a0"].recall_interval
    assert even is not None
    assert uneven is not None
    assert uneven.hi - uneven.lo > even.hi - even.lo
    assert effective_size(np.full(40, 7.0)) == pytest.approx(40)


def test_the_same_data_give_the_same_intervals():
    rng = np.random.default_rng(0)
    y, said = (rng.integers(0, 2, 200).tolist() for _ in range(2))
    assert evaluate(truth_of(y), answers_of(said)) == evaluate(truth_of(y), answers_of(said))


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (164, 196), (1, 1)])
def test_clopper_pearson_is_the_exact_interval_of_scipy(successes: int, trials: int):
    expected = binomtest(successes, trials).proportion_ci(0.95, "exact")
    assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert clopper_pearson(0, 0) is None


def test_the_bootstrap_interval_of_a_mean_holds_it_as_often_as_it_says():
    rng = np.random.default_rng(11)
    covered = 0
    for seed in range(200):
        sample = rng.exponential(size=(150, 1))
        interval = percentile_interval(resampled_sums(sample, draws=400, seed=seed)[:, 0] / 150)
        assert interval is not None
        covered += interval.lo <= 1 <= interval.hi
    assert 0.88 <= covered / 200 <= 0.99


def test_a_comparison_is_paired():
    rng = np.random.default_rng(2)
    y = rng.random(400) < 0.3
    good, same = np.where(rng.random(400) < 0.9, y, ~y), np.where(rng.random(400) < 0.75, y, ~y)
    truth = truth_of(y.astype(int).tolist())
    better, worse = answers_of(good.astype(int).tolist()), answers_of(same.astype(int).tolist(), system="two")
    found = compare(truth, better, worse)
    assert found.macro_f1.delta is not None
    assert found.macro_f1.interval is not None
    assert found.macro_f1.interval.lo > 0
    assert found.macro_f1.interval.lo < found.macro_f1.delta < found.macro_f1.interval.hi
    itself = compare(truth, better, better)
    assert (itself.macro_f1.delta, itself.macro_f1.interval) == (0.0, (0.0, 0.0))


def test_bins_hold_equal_masses_and_probabilities_that_come_true_have_no_error():
    p = np.repeat([0.1, 0.5, 0.9], 100)
    y = np.concatenate([np.arange(100) < 100 * share for share in (0.1, 0.5, 0.9)]).astype(float)
    assert calibration_error(p, y, np.ones(300), bins=3) == pytest.approx(0, abs=1e-12)
    assert calibration_error(p + 0.05, y, np.ones(300), bins=3) == pytest.approx(0.05)
    masses = equal_mass_bins(np.random.default_rng(0).random(1500), np.zeros(1500), np.ones(1500))[:, 0]
    assert masses.tolist() == [100] * 15


def test_a_weight_of_two_is_the_same_in_a_bin_as_two_items():
    rng = np.random.default_rng(4)
    p, y = rng.random(60), rng.integers(0, 2, 60).astype(float)
    doubled = calibration_error(np.repeat(p, 2), np.repeat(y, 2), np.ones(120), bins=5)
    assert calibration_error(p, y, np.full(60, 2.0), bins=5) == pytest.approx(doubled)


def test_ece_is_over_what_is_known_and_none_without_probabilities():
    p = np.array([[0.2], [0.8], [0.99]])
    found = evaluate(truth_of([0, 1, -1]), answers_of([0, 1, 1], p=p))
    assert found.ece == pytest.approx(0.2)
    assert evaluate(truth_of([0, 1]), answers_of([0, 1])).ece is None
