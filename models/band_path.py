"""Which bands to try, and in which order: from the safest to the cheapest; needs the extra `train`."""

# pyright: reportUnknownParameterType=false
# scipy has no types.

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]

_BY_POSITIVES, _BY_TEXTS = 160, 40
_STEPS = 80
_SURE, _HOPELESS = 8.0, -2.0
"""Margins between which bands are tried at even steps; above them only the safest is."""


class Rates(NamedTuple):
    """Precision and recall, wanted or measured."""

    precision: float
    recall: float


@dataclass(frozen=True)
class Bands:
    """K bands and what they gave on some texts, each [K]; counts may be expected ones.

    `asked`: texts for the LLM; `predicted`: texts taken for positive, by the student or by the LLM; `found`: the true
    ones among them. `positives`: all there are.
    """

    lo: Floats
    hi: Floats
    asked: Floats
    predicted: Floats
    found: Floats
    positives: float

    def precision(self) -> Floats:
        """Return [K]; 1 where nothing is taken for positive."""
        return np.where(self.predicted > 0, self.found / np.maximum(self.predicted, 1e-9), 1.0)

    def recall(self) -> Floats:
        """Return [K]; 1 where there are no positives."""
        return self.found / self.positives if self.positives else np.ones(len(self.found))


def tally(p: Floats, positive: Floats, yes: Floats, yes_positive: Floats) -> Bands:
    """Return what every band would give, between limits that part the texts [n] into some 200 groups.

    Per text: the student's probability, whether it is positive, whether the LLM says so, and both; 0 or 1, or the
    chance of it. Most limits lie where the positives are.
    """
    order = np.argsort(-p, kind="stable")
    p = p[order]
    sums = np.cumsum(np.stack([np.ones(len(p)), positive[order], yes[order], yes_positive[order]]), axis=1)
    by_positives = np.searchsorted(sums[1], sums[1, -1] * np.arange(1, _BY_POSITIVES) / _BY_POSITIVES)
    cuts = np.append(by_positives, np.arange(1, _BY_TEXTS) * len(p) // _BY_TEXTS)
    limits = np.unique(p[np.minimum(cuts, len(p) - 1)])[::-1]
    above = np.searchsorted(-p, -limits, side="right")  # a limit takes in every text of the same p
    limits = np.concatenate([[1.0], limits, [0.0]])
    n, positives, said, said_positive = (np.concatenate([[0.0], total[above - 1], total[-1:]]) for total in sums)
    hi, lo = np.triu_indices(len(limits))
    return Bands(
        lo=limits[lo],
        hi=limits[hi],
        asked=n[lo] - n[hi],
        predicted=n[hi] + said[lo] - said[hi],
        found=positives[hi] + said_positive[lo] - said_positive[hi],
        positives=float(positives[-1]),
    )


def expected(p: Floats, labels: NDArray[np.bool_], teacher: Rates) -> Bands:
    """Return what every band should give with an LLM of these rates, whose errors don't depend on `p`.

    The chance of each text is smoothed to rise with `p`, so that luck with single texts makes no band look good.
    """
    order = np.argsort(p, kind="stable")
    fitted: Any = isotonic_regression(labels[order].astype(np.float64))
    positive: Floats = np.empty(len(p))
    positive[order] = fitted.x
    yes_positive = teacher.recall * positive
    yes = yes_positive + false_positive_rate(teacher, float(positive.mean())) * (1 - positive)
    return tally(p, positive, yes, yes_positive)


def false_positive_rate(teacher: Rates, prevalence: float) -> float:
    """Return the share of negatives that an LLM of this precision and recall takes for positive."""
    if prevalence >= 1:
        return 0.0
    return min(1.0, teacher.recall * prevalence * (1 / teacher.precision - 1) / (1 - prevalence))


@dataclass(frozen=True)
class BandPath:
    """The bands to test for an attribute, in order, lo and hi [J]; `fallback` is the one to use if the first fails."""

    target: Rates
    lo: Floats
    hi: Floats
    fallback: int


def lay_path(p: Floats, labels: NDArray[np.bool_], target: Rates, teacher: Rates, texts: int) -> BandPath:
    """Return the bands to test on some number of calibration texts: the safest first, then ever cheaper ones.

    `p` and `labels` [m] are those of other texts. A band's margin is the smaller of its expected distances to the two
    targets, in standard errors; for each of some margins the cheapest band that has it is taken (Pareto testing,
    Laufer-Goldshtein et al. 2023). The fallback is the cheapest without a margin.
    """
    bands = expected(p, labels, teacher)
    scale = texts / len(p)
    precision = _margin(bands.precision(), target.precision, scale * bands.predicted)
    recall = _margin(bands.recall(), target.recall, np.full_like(precision, scale * bands.positives))
    margin = np.minimum(precision, recall)
    by_cost = np.lexsort((-margin, bands.asked))
    rising = margin[by_cost]
    front = by_cost[np.append(True, rising[1:] > np.maximum.accumulate(rising)[:-1])]
    margins = margin[front]
    safest = margins[-1]
    wanted = np.append(safest, np.linspace(min(_SURE, safest), min(_HOPELESS, safest), _STEPS))
    order = front[np.unique(np.searchsorted(margins, wanted))[::-1]]
    meeting = np.flatnonzero(margin[order] >= 0)
    return BandPath(target, bands.lo[order], bands.hi[order], int(meeting[-1]) if meeting.size else 0)


def _margin(rate: Floats, target: float, trials: Floats) -> Floats:
    return (rate - target) * np.sqrt(trials / (target * (1 - target)))
