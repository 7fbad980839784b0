"""The alternative annotator test, against a plain rendering of the paper's procedure with scipy's t-test."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from models.agreement import Votes
from models.alt_test import alt_test


def crowd(truth: np.ndarray, accuracy: list[float], rated: float = 1.0, seed: int = 0) -> Votes:
    rng = np.random.default_rng(seed)
    said = np.where(rng.random((len(truth), len(accuracy))) < accuracy, truth[:, None], ~truth[:, None])
    item, rater = np.nonzero(rng.random(said.shape) < rated)
    return Votes(item, rater, said[item, rater], len(truth), len(accuracy))


def noisy(truth: np.ndarray, accuracy: float, seed: int = 9) -> np.ndarray:
    right = np.random.default_rng(seed).random(len(truth)) < accuracy
    return np.where(right, truth, ~truth).astype(np.int8)


TRUTH = np.random.default_rng(1).random(300) < 0.4
RATERS = [0.9, 0.85, 0.8, 0.75]


def plainly(votes: Votes, answers: np.ndarray, epsilon: float) -> tuple[float, float]:
    by_item: dict[int, dict[int, bool]] = {}
    for item, rater, label in zip(votes.item.tolist(), votes.rater.tolist(), votes.label.tolist(), strict=True):
        by_item.setdefault(item, {})[rater] = label
    p_values, advantages = [], []
    for rater in range(votes.raters):
        wins: list[tuple[int, int]] = []
        for item, said in by_item.items():
            others = [label for other, label in said.items() if other != rater]
            if rater in said and others and answers[item] >= 0:
                human = np.mean([label == said[rater] for label in others])
                model = np.mean([label == bool(answers[item]) for label in others])
                wins.append((int(human >= model), int(model >= human)))
        p_values.append(ttest_1samp([h - m for h, m in wins], epsilon, alternative="less").pvalue)
        advantages.append(np.mean([m for _, m in wins]))
    ranks = np.arange(1, len(p_values) + 1)
    below = np.sort(p_values) <= ranks / len(ranks) * 0.05 / (1 / ranks).sum()
    rejected = int(np.flatnonzero(below).max(initial=-1)) + 1
    return rejected / len(p_values), float(np.mean(advantages))


@pytest.mark.parametrize("accuracy", [0.95, 0.8, 0.65])
@pytest.mark.parametrize("rated", [1.0, 0.6])
def test_winning_rate_and_advantage_are_those_of_the_procedure_in_the_paper(accuracy: float, rated: float):
    votes, answers = crowd(TRUTH, RATERS, rated), noisy(TRUTH, accuracy)
    answers[:20] = -1
    found = alt_test(votes, answers, 0.1)
    assert (found.winning_rate, found.advantage) == pytest.approx(plainly(votes, answers, 0.1))


def test_a_model_as_good_as_the_best_rater_passes_and_a_coin_does_not():
    votes = crowd(TRUTH, RATERS)
    assert alt_test(votes, noisy(TRUTH, 0.9)).passed is True
    assert alt_test(votes, noisy(TRUTH, 0.5)).passed is False


def test_raters_with_few_items_are_left_out_and_counted():
    votes = crowd(TRUTH, RATERS)
    kept = (votes.rater != 3) | (votes.item < 29)
    few = Votes(votes.item[kept], votes.rater[kept], votes.label[kept], votes.items, votes.raters)
    found = alt_test(few, noisy(TRUTH, 0.9))
    assert (found.raters, found.skipped_raters) == (3, 1)


@pytest.mark.parametrize("alone", [True, False])
def test_nothing_is_said_where_nobody_shares_items_or_the_model_never_answers(alone: bool):
    votes = crowd(TRUTH, [0.9] if alone else RATERS)
    found = alt_test(votes, noisy(TRUTH, 0.9) if alone else np.full(300, -1, np.int8))
    assert (found.passed, found.winning_rate, found.items) == (None, None, 0)


def test_raters_who_never_differ_from_a_right_model_are_replaced_without_a_t_test():
    votes = crowd(TRUTH, [1.0, 1.0, 1.0])
    found = alt_test(votes, TRUTH.astype(np.int8))
    assert (found.winning_rate, found.advantage) == (1.0, 1.0)
