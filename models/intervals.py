"""Intervals: exact ones for proportions, and a bootstrap over videos for everything else."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

CONFIDENCE = 0.95
DRAWS = 2_000
SEED = 20_251
_CELLS = 4_000_000


class Interval(NamedTuple):
    """Both ends, at `CONFIDENCE`."""

    lo: float
    hi: float


def clopper_pearson(successes: float, trials: float, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the exact binomial interval (Clopper & Pearson 1934); None without trials.

    Neither number need be whole: that is how Korn and Graubard (1998) use it for weighted shares, see `effective_size`.
    """
    if trials == 0:
        return None
    tail = (1 - confidence) / 2
    lo = float(betaincinv(successes, trials - successes + 1, tail)) if successes else 0.0
    hi = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return Interval(lo, hi)


def effective_size(weights: NDArray[np.float64]) -> float:
    """Return how many equally weighted items tell as much about a share as these do (Kish 1965)."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def resampled_sums(values: NDArray[np.float64], draws: int = DRAWS, seed: int = SEED) -> NDArray[np.float64]:
    """Draw n of the n rows with replacement, `draws` times; return the sums of their columns, [draws, columns].

    Rows are videos: whatever else is measured on a video is drawn with it, so that attributes, and two systems that
    are compared, stay paired.
    """
    n = len(values)
    rng = np.random.default_rng(seed)
    sums = np.empty((draws, values.shape[1]))
    step = max(1, _CELLS // max(n, 1))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        drawn = rng.integers(n, size=(size, n)) + np.arange(size)[:, None] * n
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        sums[start : start + size] = times @ values
    return sums


def percentile_interval(draws: NDArray[np.float64], confidence: float = CONFIDENCE) -> Interval | None:
    """Return the percentile interval of the draws that are defined; None if none is."""
    defined = draws[np.isfinite(draws)]
    if not defined.size:
        return None
    lo, hi = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(lo), float(hi))
