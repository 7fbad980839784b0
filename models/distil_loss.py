"""The loss of distillation: masked, weighted, against soft labels where there are any; needs the extra `train`.

Hinton, Vinyals & Dean 2015, for independent attributes: (1 - L) * BCE(q > 1/2, z) + L * T² * BCE(q^(1/T), z / T).
"""

# pyright: reportUnknownParameterType=false
# scipy has no types.

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from models.distil_rows import Rows

Floats = NDArray[np.float32]

SOFT_SHARE, TEMPERATURE = 0.7, 2.0
MAX_WEIGHT = 10.0
"""More would let a few texts that stand for many decide alone."""
_SURE = 0.01
"""Soft labels are kept this far from 0 and 1, where their logits are infinite."""


@dataclass(frozen=True)
class Targets:
    """What logits [n, A] are fitted to: `hard` 0 or 1, `soft` at the temperature, and what the soft part counts.

    `share` is 0 where the label is a fact (q is 0 or 1); `weight` is 0 where the label is not known.
    """

    hard: Floats
    soft: Floats
    share: Floats
    weight: Floats

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Make the targets of labelled texts."""
        q = np.clip(rows.q, _SURE, 1 - _SURE)
        return cls(
            hard=(rows.q > 0.5).astype(np.float32),
            soft=expit(logit(q) / TEMPERATURE).astype(np.float32),
            share=np.where((rows.q > 0) & (rows.q < 1), SOFT_SHARE, 0).astype(np.float32),
            weight=np.minimum(rows.weight, np.float32(MAX_WEIGHT)),
        )

    def __getitem__(self, index: NDArray[np.intp] | tuple[slice, int]) -> "Targets":
        """Return some rows, or one column."""
        return Targets(self.hard[index], self.soft[index], self.share[index], self.weight[index])

    def log_odds(self) -> Floats:
        """Return those of each attribute [A] where it is known: what biases start from."""
        known = np.maximum(self.weight.sum(axis=0), 1e-9)
        prior = np.clip((self.weight * self.hard).sum(axis=0) / known, 1e-3, 1 - 1e-3)
        return np.log(prior / (1 - prior)).astype(np.float32)

    def loss(self, z: Floats) -> float:
        """Return the sum over all labels for logits `z`."""
        cool = z / TEMPERATURE
        hard = np.logaddexp(0, z) - z * self.hard
        soft = TEMPERATURE**2 * (np.logaddexp(0, cool) - cool * self.soft)
        return float((self.weight * ((1 - self.share) * hard + self.share * soft)).sum(dtype=np.float64))

    def slope(self, z: Floats) -> Floats:
        """Return the loss's derivative by each logit."""
        hard, soft = expit(z) - self.hard, TEMPERATURE * (expit(z / TEMPERATURE) - self.soft)
        return self.weight * ((1 - self.share) * hard + self.share * soft)
