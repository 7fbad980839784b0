"""From logits to calibrated probabilities, decision thresholds and what they are worth; needs the extra `train`."""

# pyright: reportUnknownParameterType=false
# scipy has no types.

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from models.distil_rows import Rows

Floats = NDArray[np.float32]

PENALTY = 1.0
MIN_GOLDEN, MIN_POSITIVES = 200, 10
"""An attribute with so many golden labels held out is calibrated on them alone."""


def trusted(rows: Rows) -> Floats:
    """Return the weights [n, A] of the labels to calibrate on: golden ones, where there are enough of them."""
    golden = np.where(rows.golden, rows.weight, 0).astype(np.float32)
    known = golden > 0
    enough = (known.sum(axis=0) >= MIN_GOLDEN) & ((known & (rows.q > 0.5)).sum(axis=0) >= MIN_POSITIVES)
    return np.where(enough, golden, rows.weight).astype(np.float32)


def fit_platt(logits: Floats, q: Floats, weight: Floats) -> Floats:
    """Return scales and offset [k + 1, A]: p = sigmoid(sum of scale * logits + offset), logits [k, n, A].

    Platt scaling of k logits. A small penalty pulls the scales to (1, 0, ...) and the offset to 0, which decides where
    an attribute is too rare to say.
    """
    k, n, attributes = logits.shape
    fitted = np.zeros((k + 1, attributes), np.float32)
    start = np.zeros(k + 1)
    start[0] = 1
    for a in range(attributes):
        inputs = np.vstack([logits[:, :, a], np.ones(n)]).astype(np.float64)

        def loss(
            w: NDArray[np.float64],
            inputs: NDArray[np.float64] = inputs,
            target: Floats = q[:, a],
            weight: Floats = weight[:, a],
        ) -> tuple[float, NDArray[np.float64]]:
            z = w @ inputs
            value = (weight * (np.logaddexp(0, z) - z * target)).sum() + PENALTY / 2 * ((w - start) @ (w - start))
            return float(value), inputs @ (weight * (expit(z) - target)) + PENALTY * (w - start)

        found: Any = minimize(loss, start, jac=True, method="L-BFGS-B")
        fitted[:, a] = found.x
    return fitted


def calibrated(logits: Floats, platt: Floats) -> Floats:
    """Return probabilities [n, A] of logits [k, n, A]."""
    return expit(np.einsum("kna,ka->na", logits, platt[:-1]) + platt[-1]).astype(np.float32)


def decision_threshold(p: Floats, q: Floats, weight: Floats) -> float:
    """Return the threshold with the best F1 on texts [n].

    The F1 of a cut is the mean of the one counted and the one expected if p is calibrated: the second is smooth, where
    an attribute has a dozen positives and counting follows chance.
    """
    order = np.argsort(-p, kind="stable")
    sure, y, w = p[order].astype(np.float64), q[order] > 0.5, weight[order].astype(np.float64)
    size = np.cumsum(w)
    counted, expected = (2 * np.cumsum(w * part) / np.maximum(size + (w * part).sum(), 1e-9) for part in (y, sure))
    return float(sure[np.argmax(counted + expected)])


def thresholds(p: Floats, rows: Rows) -> Floats:
    """Return the decision threshold of each attribute, [A]."""
    weight = trusted(rows)
    return np.array(
        [decision_threshold(p[:, a], rows.q[:, a], weight[:, a]) for a in range(p.shape[1])], dtype=np.float32
    )


def f1(p: Floats, threshold: Floats, rows: Rows) -> NDArray[np.float64]:
    """Return the weighted F1 of each attribute, [A]; `threshold` is [A], or [n, A]. 0 where nothing is present."""
    said, y, weight = p >= threshold, rows.q > 0.5, rows.weight.astype(np.float64)
    hits, total = (weight * (said & y)).sum(axis=0), (weight * said).sum(axis=0) + (weight * y).sum(axis=0)
    return 2 * hits / np.maximum(total, 1e-9)
