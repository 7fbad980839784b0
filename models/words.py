"""A bag of words and of pairs of neighbouring words, the linear path of both tiers; needs the extra `train`.

Logistic regression on naive-Bayes-scaled counts (Wang & Manning 2012). Pairs are hashed (Weinberger et al. 2009), so
that the graph needs no list of them: `models.word_graph` computes the same numbers from the ids.
"""

# pyright: reportUnknownParameterType=false
# scipy has no types.

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from models.distil_loss import Targets
from models.features import PAD

Floats = NDArray[np.float32]

Counts = Any
"""A scipy.sparse.csr_matrix, float32 [n, V + PAIRS], of tokens and pairs over the square root of the text's length."""

Advance = Callable[[], None]
"""Called once per finished step, for a progress bar."""

PAIRS = 65_521
"""Places that pairs are hashed to; a prime."""

STRIDE = 32_749
PENALTY, FLOOR, PAIR_SHARE = 0.7, 0.3, 0.5
"""Pairs are trusted half as much as words."""

_FEWEST = 10
"""A pair that fewer of the learned texts have keeps the weight 0: it says nothing sure, and would share its place."""


def pair_of(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each pair of tokens."""
    return (first * STRIDE + second) % PAIRS


def count_words(rows: Sequence[Sequence[int]], vocabulary: int) -> Counts:
    """Return the texts' tokens and pairs as the graph pools them; the last token's pair is with padding."""
    lengths = np.array([len(row) for row in rows])
    total = int(lengths.sum())
    tokens = np.fromiter((token for row in rows for token in row), np.int64, total)
    after = np.append(tokens[1:], PAD)[:total]
    after[np.cumsum(lengths)[lengths > 0] - 1] = PAD
    columns = np.stack([tokens, vocabulary + pair_of(tokens, after)], axis=1).ravel()
    values = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), 2 * lengths).astype(np.float32)
    shape = len(rows), vocabulary + PAIRS
    matrix = csr_matrix((values, columns, np.append(0, 2 * np.cumsum(lengths))), shape)
    matrix.sum_duplicates()
    return matrix


@dataclass(frozen=True)
class Words:
    """Weights of tokens and pairs [V + PAIRS, A], and bias [A]."""

    weights: Floats
    bias: Floats

    def logits(self, x: Counts) -> Floats:
        """Return [n, A]."""
        return x @ self.weights + self.bias


def fit_words(x: Counts, targets: Targets, advance: Advance) -> Words:
    """Fit one logistic regression per attribute by L-BFGS; `advance` is called A times.

    Each column is scaled by its floored absolute log-odds, so that the penalty spares telling words.
    """
    texts = np.bincount(x.indices, minlength=x.shape[1])
    single = np.arange(x.shape[1]) < x.shape[1] - PAIRS
    kept = np.flatnonzero((texts > 0) & (single | (texts >= _FEWEST)))
    trust = np.where(single[kept], 1, PAIR_SHARE).astype(np.float32)
    x = x[:, kept]
    present = (x > 0).astype(np.float32).T.tocsr()
    transposed = x.T.tocsr()
    attributes = targets.hard.shape[1]
    weights = np.zeros((len(texts), attributes), np.float32)
    bias = np.zeros(attributes, np.float32)
    for a in range(attributes):
        target = targets[:, a]
        with_ = present @ (target.weight * target.hard) + 1
        without = present @ (target.weight * (1 - target.hard)) + 1
        scale = trust * (FLOOR + np.abs(np.log(with_ / with_.sum()) - np.log(without / without.sum())))

        def loss(
            w: NDArray[np.float64], target: Targets = target, scale: Floats = scale
        ) -> tuple[float, NDArray[np.float64]]:
            z = (x @ (scale * w[:-1]).astype(np.float32) + w[-1]).astype(np.float32)
            slope = target.slope(z)
            value = target.loss(z) + PENALTY / 2 * (w[:-1] @ w[:-1])
            return float(value), np.append(scale * (transposed @ slope) + PENALTY * w[:-1], slope.sum())

        fitted: Any = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 60})
        weights[kept, a] = scale * fitted.x[:-1]
        bias[a] = fitted.x[-1]
        advance()
    return Words(weights, bias)
