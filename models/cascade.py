"""Bands: where the student decides alone and where it asks the LLM."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.annotation import AttributeScore


class BandLimits(NamedTuple):
    """p >= hi accepts, p < lo rejects, between is uncertain; lo <= hi."""

    lo: float
    hi: float


def decide(
    probability: NDArray[np.float32],
    bands: Mapping[str, BandLimits],
    ids: Sequence[str],
    certified: Collection[str] = (),
) -> dict[str, AttributeScore]:
    """Return what the student says about one video; `probability` is [A], in the order of `ids`.

    The label of an uncertain attribute is None. Every score says whether its attribute is one of the `certified`.
    """
    scores: dict[str, AttributeScore] = {}
    for name, p in zip(ids, probability.tolist(), strict=True):
        lo, hi = bands[name]
        band, label = ("accept", True) if p >= hi else ("reject", False) if p < lo else ("uncertain", None)
        scores[name] = AttributeScore(p=p, band=band, label=label, source="student", certified=name in certified)
    return scores


def cheapest_band(p: NDArray[np.float32], y: NDArray[np.bool_], precision: float, recall: float) -> BandLimits:
    """Return the band that asks the LLM least and still meets both targets on these texts.

    A point estimate that takes the LLM to be always right: with the n texts of highest p accepted and m more asked
    about, precision = TP / (TP + false accepts) and recall = TP / positives, where TP counts the positives among n + m.
    Of equally cheap bands the one with the best F1 is taken.
    """
    order = np.argsort(-p, kind="stable")
    found = np.append(0, np.cumsum(y[order]))
    false = np.arange(len(p) + 1) - found
    seen = np.arange(np.searchsorted(found, recall * found[-1]), len(p) + 1)
    allowed = found[seen] * (1 / precision - 1)
    accepted = np.minimum(np.searchsorted(false, allowed, side="right") - 1, seen)
    f1 = 2 * found[seen] / np.maximum(found[seen] + false[accepted] + found[-1], 1)
    best = np.lexsort((-f1, seen - accepted))[0]
    limits = np.append(1.0, p[order])
    return BandLimits(float(limits[seen[best]]), float(limits[accepted[best]]))
