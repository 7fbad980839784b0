"""How far raters agree, and what their votes add up to.

Votes are three arrays of one length: item index, rater index, label (True: the attribute is present). A rater who was
unsure gave no vote, and is in none of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_TIE = 1e-9


@dataclass(frozen=True)
class Votes:
    """All votes on one attribute."""

    item: Indices
    rater: Indices
    label: Bools
    items: int
    raters: int

    @property
    def counts(self) -> NDArray[np.int64]:
        """Votes per item, [items, 2]: absent, present."""
        return np.bincount(self.item * 2 + self.label, minlength=2 * self.items).reshape(-1, 2)


def krippendorff_alpha(counts: NDArray[np.int64]) -> float | None:
    """Return Krippendorff's alpha for nominal labels; `counts` [items, labels] is how often an item got a label.

    Items with a single vote say nothing about agreement and are left out. None where alpha is not defined: no item has
    two votes, or all votes are the same (chance can't be told from agreement). Krippendorff, "Computing Krippendorff's
    Alpha-Reliability" (2011).
    """
    paired = counts[counts.sum(axis=1) >= 2].astype(np.float64)
    each = paired.sum(axis=1)
    total = each.sum()
    of_label = paired.sum(axis=0)
    expected = total**2 - (of_label**2).sum()
    if expected == 0:
        return None
    observed = ((each**2 - (paired**2).sum(axis=1)) / (each - 1)).sum()
    return float(1 - (total - 1) * observed / expected)


def majority(counts: NDArray[np.int64]) -> tuple[NDArray[np.int8], Floats]:
    """Return the label of each item (1, 0, or -1 at a tie or without votes) and the share of votes behind it."""
    total = counts.sum(axis=1)
    label = np.where(counts[:, 1] > counts[:, 0], 1, np.where(counts[:, 1] < counts[:, 0], 0, -1)).astype(np.int8)
    return label, counts.max(axis=1) / np.maximum(total, 1)


@dataclass(frozen=True)
class Consensus:
    """What Dawid and Skene's model makes of the votes.

    `present` is the probability that the attribute is there, [items], NaN without votes. `confusion` is [raters, 2, 2]:
    the probability of what a rater says (last axis) given what is true. `prior` is the share of present items.
    """

    present: Floats
    confusion: Floats
    prior: float
    converged: bool

    @property
    def label(self) -> NDArray[np.int8]:
        """1, 0, or -1 where the model can't decide or nobody voted."""
        sure = np.abs(self.present - 0.5) > _TIE
        return np.where(sure, self.present > 0.5, -1).astype(np.int8)


def dawid_skene(votes: Votes, *, smoothing: float = 1.0, rounds: int = 500, tolerance: float = 1e-7) -> Consensus:
    """Estimate labels and raters together, by EM from the shares of votes (Dawid & Skene 1979).

    `smoothing` is added to every cell of a rater's confusion matrix, so that a rater with few votes counts for little.
    It stops when no probability moves by more than `tolerance`.
    """
    voted = np.bincount(votes.item, minlength=votes.items) > 0
    counts = votes.counts
    present = counts[:, 1] / np.maximum(counts.sum(axis=1), 1)
    said = votes.label.astype(np.intp)
    confusion, prior, converged = np.full((votes.raters, 2, 2), 0.5), 0.5, False
    for _ in range(rounds):
        confusion = np.full((votes.raters, 2, 2), smoothing)
        for truth, q in enumerate((1 - present, present)):
            cells = np.bincount(votes.rater * 2 + said, q[votes.item], 2 * votes.raters)
            confusion[:, truth] += cells.reshape(-1, 2)
        confusion /= np.maximum(confusion.sum(axis=2, keepdims=True), np.finfo(float).tiny)
        prior = float(present[voted].mean()) if voted.any() else 0.5
        with np.errstate(divide="ignore"):
            logs = np.log(confusion)
            odds = np.full(votes.items, np.log(prior) - np.log1p(-prior) if prior < 1 else np.inf)
        evidence = np.clip(logs[votes.rater, 1, said] - logs[votes.rater, 0, said], -700, 700)
        np.add.at(odds, votes.item, evidence)
        new = np.where(voted, 1 / (1 + np.exp(np.clip(-odds, -700, 700))), 0.0)
        moved = float(np.abs(new - present).max(initial=0.0))
        present = new
        if moved <= tolerance:
            converged = True
            break
    return Consensus(np.where(voted, present, np.nan), confusion, prior, converged)
