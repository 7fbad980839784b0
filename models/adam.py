"""The optimizer of both tiers: Adam (Kingma and Ba 2015), with decoupled weight decay (Loshchilov and Hutter 2019)."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from models.distil_loss import Floats


class Adam:
    """Moves parameters in place; `decay` is of matrices, not of biases."""

    def __init__(self, parameters: Sequence[Floats], decay: float = 0.0) -> None:
        self._parameters = parameters
        self._decay = decay
        self._first = [np.zeros_like(p) for p in parameters]
        self._second = [np.zeros_like(p) for p in parameters]
        self._steps = 0

    def step(self, gradients: Sequence[Floats], rate: float) -> None:
        """Take one step."""
        self._steps += 1
        t = self._steps
        for p, g, m, v in zip(self._parameters, gradients, self._first, self._second, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            p -= rate * ((m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + self._decay * (p.ndim > 1) * p)


def batches(
    rng: np.random.Generator, n: int, size: int, epochs: int, advance: Callable[[], None]
) -> Iterator[tuple[NDArray[np.intp], float]]:
    """Yield rows in random order, `size` at once, and the share of all steps that is done with them.

    What an epoch leaves over is left out of it; `advance` is called after each.
    """
    size = min(size, n)
    steps = n // size
    for epoch in range(epochs):
        order = rng.permutation(n)
        for step in range(steps):
            yield order[step * size : (step + 1) * size], (1 + epoch * steps + step) / (epochs * steps)
        advance()
