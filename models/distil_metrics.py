"""What a student is worth on labelled texts; needs the extra `train`."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.bundle import AttributeMetrics, Metrics
from models.calibration import Floats, f1, thresholds
from models.cascade import BandLimits
from models.distil_rows import Rows
from models.evaluation import calibration_error


def measure(
    p: Floats,
    rows: Rows,
    ids: Sequence[str],
    bands: Sequence[BandLimits],
    threshold: Floats,
    on: Literal["dev", "heldout"],
) -> Metrics:
    """Return F1, calibration error and bands' shares of probabilities [n, A]; `threshold` is [A], or [n, A]."""
    lo, hi = np.array(bands).T
    accepted = p >= hi
    asked = (p >= lo) & ~accepted
    scores = f1(p, threshold, rows)
    attributes: dict[str, AttributeMetrics] = {}
    for a, name in enumerate(ids):
        known = rows.weight[:, a] > 0
        y, took, ask = rows.q[known, a] > 0.5, accepted[known, a], asked[known, a]
        error = calibration_error(
            p[known, a].astype(np.float64), y.astype(np.int8), rows.weight[known, a].astype(np.float64)
        )
        attributes[name] = AttributeMetrics(
            positives=int(y.sum()),
            f1=round(float(scores[a]), 4),
            ece=round(error, 4),
            accept=_mean(took) or 0.0,
            uncertain=_mean(ask) or 0.0,
            accept_precision=_mean(y[took]),
            precision=_mean(y[took | (ask & y)]),
            recall=_mean((took | ask)[y]),
        )
    return Metrics(
        on=on,
        rows=len(rows.texts),
        macro_f1=round(sum(m.f1 for m in attributes.values()) / len(ids), 4),
        macro_ece=round(sum(m.ece for m in attributes.values()) / len(ids), 4),
        uncertain_any=_mean(asked.any(axis=1)) or 0.0,
        attributes=attributes,
    )


def measure_heldout(p: Floats, rows: Rows, ids: Sequence[str], bands: Sequence[BandLimits]) -> Metrics:
    """Measure on the texts that calibrate: each half at the thresholds of the other."""
    half = np.arange(len(p)) % 2
    threshold = np.empty_like(p)
    for number in (0, 1):
        other = np.flatnonzero(half != number)
        threshold[half == number] = thresholds(p[other], rows[other])
    return measure(p, rows, ids, bands, threshold, "heldout")


def _mean(values: NDArray[np.bool_]) -> float | None:
    return round(float(values.mean()), 4) if values.size else None
