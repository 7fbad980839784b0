"""Certified bands: learn-then-test, so that luck with the calibration texts sells no band that misses its targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.band_path import BandPath, Rates, false_positive_rate, lay_path
from models.cascade import BandLimits
from models.rate_test import p_values
from schemas.errors import ConfigurationError

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]

DELTA = 0.1


@dataclass(frozen=True)
class Calibration:
    """Texts that certify, drawn as live traffic is: each array is [n, A].

    `labels`: the truth, 1, 0, or -1 where not known. `answers`: what the LLM says of the same texts, 1 for yes, all
    else is no; it has to be the model and prompt that will be asked. `weights`: 1/sampling_prob, or None where every
    text was as likely to be drawn.
    """

    p: Floats
    labels: Labels
    answers: Labels
    weights: Floats | None = None


@dataclass(frozen=True)
class CertifiedBand:
    """The band of an attribute. Not `certified`: the texts don't show that any band on its path meets the targets.

    `precision`, `recall` and `asked` (the share that the LLM is asked about) are those of the calibration texts,
    unweighted; `positives` is how many of them there are. None: no such texts.
    """

    limits: BandLimits
    certified: bool
    precision: float | None
    recall: float | None
    asked: float | None
    positives: int


def lay_paths(
    p: Floats, labels: Labels, targets: Sequence[Rates], teacher: Sequence[Rates], texts: int
) -> tuple[BandPath, ...]:
    """Return which bands to test for each attribute on about so many calibration texts, by a pilot.

    The pilot, `p` and `labels` [m, A] (-1: not known), has to be other texts than the calibration's, and none that the
    student has learned from. No guarantee rests on it, so its labels may be an LLM's; nor on `teacher`, the LLM's
    precision and recall as far as known from elsewhere. A poor pilot costs LLM calls.

    Raises:
        ConfigurationError: the sizes don't fit together, or an attribute has no label.

    """
    if p.shape != labels.shape or not p.shape[1] == len(targets) == len(teacher):
        raise ConfigurationError(
            f"pilot p {p.shape} and labels {labels.shape}, {len(targets)} targets, {len(teacher)} teachers: give"
            " [m, A] twice and A of each"
        )
    known = labels >= 0
    unlabelled = np.flatnonzero(~known.any(axis=0)).tolist()
    if unlabelled:
        raise ConfigurationError(f"the pilot has no label for the attributes of columns {unlabelled}; label some texts")
    return tuple(
        lay_path(p[known[:, a], a], labels[known[:, a], a] == 1, targets[a], teacher[a], texts)
        for a in range(len(targets))
    )


def certify(calibration: Calibration, paths: Sequence[BandPath], delta: float = DELTA) -> tuple[CertifiedBand, ...]:
    """Return the cheapest band of each attribute that is proven to meet its targets.

    The guarantee: for each attribute by itself, the chance over the draw of the calibration texts that its band is
    called certified although precision or recall on live traffic is below target is at most `delta`. Precision and
    recall are those of the cascade, the LLM's own errors included. It is no promise about all attributes at once (for
    that divide `delta` by their number), nor about a given set of later texts, whose rates scatter around the true
    ones, nor after traffic, student, LLM or prompt have changed. Labels must be missing at random. With equal weights
    it is exact for any number of texts; with others the largest weight seen stands for the largest there is.

    How: bands are tested in the order of the path, and the first failure ends it (fixed-sequence testing, so that their
    number needs no correction; Angelopoulos et al. 2021, Learn then Test). A band passes if "its precision is below
    target" and "its recall is below target" are both rejected at `delta`: a bad band has to have one of them rejected
    falsely, so `delta` needs no splitting either (intersection-union test, Berger 1982). All texts serve every test.

    Raises:
        ConfigurationError: the arrays don't fit together.

    """
    _check(calibration, len(paths))
    return tuple(_certify(calibration, a, path, delta) for a, path in enumerate(paths))


def draw_answers(labels: Labels, teacher: Sequence[Rates], rng: np.random.Generator) -> Labels:
    """Return answers [n, A] that an LLM of these rates would give if its errors did not depend on the text.

    For where only rates are known: what is certified with drawn answers holds as far as the rates and that assumption
    do. Where a label is not known there is no answer, -1.
    """
    known, present = labels >= 0, labels == 1
    prevalence = present.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    false_rate = np.array([false_positive_rate(r, float(s)) for r, s in zip(teacher, prevalence, strict=True)])
    chance = np.where(present, [rates.recall for rates in teacher], false_rate)
    return np.where(known, rng.random(labels.shape) < chance, -1).astype(np.int8)


def _certify(calibration: Calibration, a: int, path: BandPath, delta: float) -> CertifiedBand:
    known = calibration.labels[:, a] >= 0
    p, yes, positive = calibration.p[known, a], calibration.answers[known, a] == 1, calibration.labels[known, a] == 1
    weights = None if calibration.weights is None else calibration.weights[known, a]
    if weights is not None and weights.size and not np.ptp(weights):
        weights = None
    found = (p >= path.hi[:, None]) | ((p >= path.lo[:, None]) & yes)
    present = np.broadcast_to(positive, found.shape)
    precise = p_values(present, found, path.target.precision, weights) <= delta
    complete = p_values(found, present, path.target.recall, weights) <= delta
    passed = int(np.argmin(np.append(precise & complete, False)))
    chosen = passed - 1 if passed else path.fallback
    limits = BandLimits(float(path.lo[chosen]), float(path.hi[chosen]))
    return CertifiedBand(
        limits=limits,
        certified=passed > 0,
        precision=_mean(positive[found[chosen]]),
        recall=_mean(found[chosen][positive]),
        asked=_mean((p >= limits.lo) & (p < limits.hi)),
        positives=int(positive.sum()),
    )


def _mean(values: NDArray[np.bool_]) -> float | None:
    return round(float(values.mean()), 4) if values.size else None


def _check(calibration: Calibration, attributes: int) -> None:
    shape, weights = calibration.p.shape, calibration.weights
    same = (calibration.labels, calibration.answers, *(() if weights is None else (weights,)))
    if shape[1] != attributes or any(array.shape != shape for array in same):
        raise ConfigurationError(
            f"p {shape} and {[array.shape for array in same]} for {attributes} paths: give arrays [n, A] and A paths"
        )
    if weights is not None and not (weights[calibration.labels >= 0] > 0).all():
        raise ConfigurationError("a labelled text has no weight above 0; weights are 1/sampling_prob")
