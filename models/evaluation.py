"""How good an annotator's answers are, held against known labels: with intervals, and against another's.

Arrays are [n, A], a row per video and a column per attribute. A label is 1 (present), 0 (absent) or -1: of the truth,
not known, and then the cell counts for nothing; of an annotator, an abstention. An abstention never counts as an answer
for precision; where the attribute is present it counts as missed, so that abstaining can't raise recall or F1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.agreement import Votes
from models.alt_test import AltTest, alt_test
from models.intervals import (
    CONFIDENCE,
    DRAWS,
    SEED,
    Interval,
    clopper_pearson,
    effective_size,
    percentile_interval,
    resampled_sums,
)
from schemas.annotation import AnnotatorVersion

Labels = NDArray[np.int8]
Floats = NDArray[np.float64]

ECE_BINS = 15
_DIGITS = 4


@dataclass(frozen=True)
class Truth:
    """What is known of videos. `weight` is 1/sampling_prob; `votes`, per attribute, are there if raters were asked."""

    source: str
    videos: Sequence[str]
    attributes: Sequence[str]
    label: Labels
    weight: Floats
    votes: dict[str, Votes] | None = None


class Effort(Struct, frozen=True, omit_defaults=True):
    """What answering took, per video; None is not measured.

    `latency_p95_ms` is of one video by itself for a student, and of the request that a video was in for an LLM.
    """

    videos: int
    videos_per_cpu_s: float | None = None
    latency_p95_ms: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    usd_per_1000: float | None = None


@dataclass(frozen=True)
class Answers:
    """What a system said, in the order of a `Truth`; probability is NaN where it gave none.

    `annotator` is the LLM and prompt, where it is one.
    """

    system: str
    label: Labels
    probability: Floats
    effort: Effort
    annotator: AnnotatorVersion | None = None


class Score(Struct, frozen=True):
    """One attribute. `interval_method` is that of precision and recall; F1's is always the bootstrap.

    None: not defined (nothing was predicted, nothing is present, or no probabilities).
    """

    judged: int
    positives: int
    predicted: int
    abstained: int
    precision: float | None
    precision_interval: Interval | None
    recall: float | None
    recall_interval: Interval | None
    interval_method: Literal["clopper-pearson", "clopper-pearson, effective size"]
    f1: float | None
    f1_interval: Interval | None
    ece: float | None
    alt_test: AltTest | None = None


class Evaluation(Struct, frozen=True, kw_only=True):
    """A system on a set of videos. `macro_f1` and `ece` are means over the attributes where they are defined."""

    system: str
    data: str
    videos: int
    macro_f1: float | None
    macro_f1_interval: Interval | None
    macro_over: int
    micro_f1: float | None
    micro_f1_interval: Interval | None
    ece: float | None
    ece_bins: int = ECE_BINS
    abstained: int
    effort: Effort
    confidence: float = CONFIDENCE
    bootstrap_draws: int = DRAWS
    bootstrap_seed: int = SEED
    attributes: dict[str, Score]


class Difference(Struct, frozen=True):
    """A score of the first system minus the second's, over the same draws of videos."""

    delta: float | None
    interval: Interval | None


class Comparison(Struct, frozen=True, kw_only=True):
    """Two systems on the same videos, by a paired bootstrap."""

    system: str
    against: str
    macro_f1: Difference
    micro_f1: Difference
    attributes: dict[str, Difference]


def evaluate(truth: Truth, answers: Answers) -> Evaluation:
    """Score `answers` against `truth`."""
    outcomes = _outcomes(truth, answers)
    exact, drawn = _f1s(outcomes.sum(axis=0)[None]), _f1s(resampled_sums(outcomes))
    known = truth.label >= 0
    abstained = known & (answers.label < 0)
    scores = {
        name: _score(truth, answers, a, exact.attributes[0, a], drawn.attributes[:, a])
        for a, name in enumerate(truth.attributes)
    }
    calibration = [score.ece for score in scores.values() if score.ece is not None]
    return Evaluation(
        system=answers.system,
        data=truth.source,
        videos=int(known.any(axis=1).sum()),
        macro_f1=_number(exact.macro[0]),
        macro_f1_interval=_rounded(percentile_interval(drawn.macro)),
        macro_over=int(np.isfinite(exact.attributes).sum()),
        micro_f1=_number(exact.micro[0]),
        micro_f1_interval=_rounded(percentile_interval(drawn.micro)),
        ece=_number(float(np.mean(calibration))) if calibration else None,
        abstained=int(abstained.sum()),
        effort=answers.effort,
        attributes=scores,
    )


def compare(truth: Truth, answers: Answers, against: Answers) -> Comparison:
    """Compare F1 on the same resampled videos."""
    both = np.hstack([_outcomes(truth, answers), _outcomes(truth, against)])
    exact, drawn = both.sum(axis=0)[None], resampled_sums(both)
    half = both.shape[1] // 2
    ours, theirs = _f1s(drawn[:, :half]), _f1s(drawn[:, half:])
    our_f1, their_f1 = _f1s(exact[:, :half]), _f1s(exact[:, half:])
    return Comparison(
        system=answers.system,
        against=against.system,
        macro_f1=_difference(our_f1.macro - their_f1.macro, ours.macro - theirs.macro),
        micro_f1=_difference(our_f1.micro - their_f1.micro, ours.micro - theirs.micro),
        attributes={
            name: _difference(
                our_f1.attributes[:, a] - their_f1.attributes[:, a], ours.attributes[:, a] - theirs.attributes[:, a]
            )
            for a, name in enumerate(truth.attributes)
        },
    )


def equal_mass_bins(probability: Floats, label: Labels, weight: Floats, bins: int = ECE_BINS) -> Floats:
    """Return [bins, 3]: weight, mean probability and share of present ones, in bins of (nearly) equal weight.

    Empty bins, where single items weigh more than a bin, are left out.
    """
    order = np.argsort(probability, kind="stable")
    p, y, w = probability[order], label[order], weight[order]
    before = np.cumsum(w) - w / 2  # the middle of an item says which bin it is in
    bin_of = np.minimum((before / w.sum() * bins).astype(np.intp), bins - 1)
    mass, sum_p, sum_y = (np.bincount(bin_of, values, bins).astype(np.float64) for values in (w, w * p, w * y))
    there = mass > 0
    return np.array([mass[there], sum_p[there] / mass[there], sum_y[there] / mass[there]]).T


def calibration_error(probability: Floats, label: Labels, weight: Floats, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error over bins of equal mass."""
    mass, p, share = equal_mass_bins(probability, label, weight, bins).T
    return float((mass * np.abs(p - share)).sum() / mass.sum())


@dataclass(frozen=True)
class _F1s:
    """F1 per draw: of each attribute [draws, A], their mean, and of all pooled.

    NaN where nothing is present: that depends on the truth alone, so that two systems have means over the same ones.
    """

    attributes: Floats
    macro: Floats
    micro: Floats


def _outcomes(truth: Truth, answers: Answers) -> Floats:
    """Return weighted true positives, false positives and misses, [n, 3 * A]."""
    y, said = truth.label, answers.label
    outcomes = ((y == 1) & (said == 1), (y == 0) & (said == 1), (y == 1) & (said != 1))
    return np.hstack([outcome * truth.weight for outcome in outcomes])


def _f1s(sums: Floats) -> _F1s:
    tp, fp, fn = np.split(sums, 3, axis=1)
    each = np.where(tp + fn > 0, _ratio(2 * tp, 2 * tp + fp + fn), np.nan)
    defined = np.isfinite(each)
    macro = _ratio(np.where(defined, each, 0.0).sum(axis=1), defined.sum(axis=1))
    tp, fp, fn = tp.sum(axis=1), fp.sum(axis=1), fn.sum(axis=1)
    return _F1s(each, macro, _ratio(2 * tp, 2 * tp + fp + fn))


def _score(truth: Truth, answers: Answers, a: int, f1: float, f1_draws: Floats) -> Score:
    y, said, weight = truth.label[:, a], answers.label[:, a], truth.weight[:, a]
    known = y >= 0
    present, predicted = known & (y == 1), known & (said == 1)
    hits = present & predicted
    precision, recall = (
        _ratio(np.array([weight[hits].sum()]), np.array([weight[base].sum()]))[0] for base in (predicted, present)
    )
    weighted = bool(known.any()) and float(np.ptp(weight[known])) > 0
    precision_interval, recall_interval = (_share_interval(weight, hits, base) for base in (predicted, present))
    p = answers.probability[:, a]
    scored = known & np.isfinite(p)
    return Score(
        judged=int(known.sum()),
        positives=int(present.sum()),
        predicted=int(predicted.sum()),
        abstained=int((known & (said < 0)).sum()),
        precision=_number(precision),
        precision_interval=_rounded(precision_interval),
        recall=_number(recall),
        recall_interval=_rounded(recall_interval),
        interval_method="clopper-pearson, effective size" if weighted else "clopper-pearson",
        f1=_number(f1),
        f1_interval=_rounded(percentile_interval(f1_draws)),
        ece=_number(calibration_error(p[scored], y[scored], weight[scored])) if scored.any() else None,
        alt_test=alt_test(truth.votes[truth.attributes[a]], said) if truth.votes else None,
    )


def _share_interval(weight: Floats, hits: NDArray[np.bool_], base: NDArray[np.bool_]) -> Interval | None:
    size = effective_size(weight[base])
    share = float(weight[hits].sum() / weight[base].sum()) if size else 0.0
    return clopper_pearson(share * size, size)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _number(value: float) -> float | None:
    return round(float(value), _DIGITS) if np.isfinite(value) else None


def _rounded(interval: Interval | None) -> Interval | None:
    return interval and Interval(round(interval.lo, _DIGITS), round(interval.hi, _DIGITS))


def _difference(exact: Floats, drawn: Floats) -> Difference:
    return Difference(_number(exact[0]), _rounded(percentile_interval(drawn)))
