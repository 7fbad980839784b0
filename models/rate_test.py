"""Tests of "this rate is at least its target" that hold for any number of texts; needs the extra `train`."""

# pyright: reportUnknownParameterType=false
# scipy has no types.

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]

_BETS = np.geomspace(0.05, 0.95, 10)


def p_values(hit: Masks, counted: Masks, target: float, weights: Floats | None = None) -> Floats:
    """Return, for each of J rates, a p-value [J] against "the rate is below `target`".

    A rate is the share of hits among the counted texts of the population; `hit` and `counted` are [J, n], texts drawn
    independently. Without weights this is the exact binomial test, whose inversion is the Clopper-Pearson bound.

    `weights` [n] are one over the probability with which each text was sampled. Then the test bets: with the weights
    scaled to at most 1, the product of 1 + bet * weight * (hit - target) over the counted texts grows beyond 1/delta
    with probability at most delta if the rate is below its target (Waudby-Smith & Ramdas 2024; here the mean over some
    fixed bets, after the last text). The largest weight seen stands for the largest there is. It needs some
    two and a half times as many texts as the binomial test.
    """
    hit = hit & counted
    if weights is None:
        hits, trials = hit.sum(axis=1), counted.sum(axis=1)
        return np.where(hits > 0, betainc(np.maximum(hits, 1), trials - hits + 1, target), 1.0)
    scaled = weights / weights.max()
    gains = scaled * (np.where(hit, 1 - target, 0.0) - np.where(counted & ~hit, target, 0.0))
    growth = np.stack([np.log1p(bet / target * gains).sum(axis=1) for bet in _BETS])
    return np.exp(np.minimum(0.0, np.log(len(_BETS)) - np.logaddexp.reduce(growth, axis=0)))
