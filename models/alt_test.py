"""The alternative annotator test: may a model stand in for the raters? (Calderon, Reichart & Dror 2025, 2501.10970)."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.special import stdtr
from scipy.stats import false_discovery_control

from models.agreement import Votes

EPSILON = 0.2
"""How much worse than a rater the model may be, in exchange for what it saves; .2 is the paper's choice for experts."""

FALSE_DISCOVERIES = 0.05
MIN_ITEMS = 30


class AltTest(Struct, frozen=True):
    """`winning_rate`: share of the tested raters whom the model can replace; it passes at one half.

    `advantage` is the mean probability that the model agrees with the other raters at least as well as the rater does.
    None where no rater could be tested: nobody shares `MIN_ITEMS` answered items with another rater.
    """

    passed: bool | None
    winning_rate: float | None
    advantage: float | None
    raters: int
    skipped_raters: int
    items: int
    epsilon: float


def alt_test(votes: Votes, answers: NDArray[np.int8], epsilon: float = EPSILON) -> AltTest:
    """Compare `answers` [items] (1, 0, -1: none) with each rater in turn, by agreement with the others.

    Items without an answer, or with a single vote, are left out, and so are raters with fewer than `MIN_ITEMS` items.
    Per rater a one-sided t-test asks whether the rater is better by less than `epsilon`; the false discovery rate over
    raters is held by Benjamini and Yekutieli's procedure. Where nearly all votes are "absent", a model that never finds
    anything agrees as well: read it beside recall.
    """
    counts = votes.counts
    usable = (answers >= 0) & (counts.sum(axis=1) >= 2)
    p_values: list[float] = []
    advantages: list[float] = []
    skipped = 0
    for rater in np.unique(votes.rater):
        own = (votes.rater == rater) & usable[votes.item]
        if own.sum() < MIN_ITEMS:
            skipped += 1
            continue
        item, said = votes.item[own], votes.label[own].astype(np.intp)
        others = counts[item].copy()
        others[np.arange(len(item)), said] -= 1
        by_rater = np.take_along_axis(others, said[:, None], 1)[:, 0]
        by_model = np.take_along_axis(others, answers[item].astype(np.intp)[:, None], 1)[:, 0]
        p_values.append(_p_below((by_rater >= by_model).astype(float) - (by_model >= by_rater), epsilon))
        advantages.append(float((by_model >= by_rater).mean()))
    if not p_values:
        return AltTest(None, None, None, 0, skipped, int(usable.sum()), epsilon)
    replaced = false_discovery_control(p_values, method="by") <= FALSE_DISCOVERIES
    rate = float(np.mean(replaced))
    return AltTest(rate >= 0.5, rate, float(np.mean(advantages)), len(p_values), skipped, int(usable.sum()), epsilon)


def _p_below(differences: NDArray[np.float64], epsilon: float) -> float:
    """Return the p-value of "the mean is at least `epsilon`" against "it is less", by Student's t."""
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread == 0:  # they all are the same: there is nothing to test
        return 0.0 if mean < epsilon else 1.0
    t = (mean - epsilon) / (spread / np.sqrt(len(differences)))
    return float(stdtr(len(differences) - 1, t))
