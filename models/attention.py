"""Heads that look at tokens: each attribute picks, by an attention of its own, the tokens that tell; needs `train`.

Label-wise attention (Mullenbach et al. 2018, CAML): of token states h_t [F], the logit of attribute a is
sum_t softmax_t(focus_a . h_t) (value_a . h_t) + bias_a. A mean over all tokens drowns one telling word in a long text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.adam import Adam
from models.distil_loss import Targets
from models.words import Advance

Floats = NDArray[np.float32]

EPOCHS, BATCH, RATE, DECAY, DROPOUT = 6, 128, 2e-3, 0.02, 0.2
_POOL = 32
"""Batches hold texts of similar length out of so many batches' worth, so that little is padded."""

_SAMPLED = 20_000
_NEVER = np.float32(-1e9)


class States:
    """What an encoder says of each token of each text, float16 in a nameless file: a GB for 40,000 short texts."""

    def __init__(self, lengths: Sequence[int], size: int) -> None:
        self.lengths = np.array(lengths)
        self.size = size
        self._end = np.cumsum(self.lengths)
        with TemporaryFile() as file:
            self._rows = np.memmap(file, np.float16, "w+", shape=(max(1, int(self.lengths.sum())), size))

    def put(self, text: int, states: NDArray[np.floating]) -> None:
        """Keep the states [tokens, F] of a text."""
        self._rows[self._end[text] - self.lengths[text] : self._end[text]] = states

    def of(self, texts: NDArray[np.intp]) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the states [n, T, F] of some texts, and which are there [n, T]."""
        lengths = self.lengths[texts]
        there = np.arange(max(1, int(lengths.max()))) < lengths[:, None]
        states = np.zeros((*there.shape, self.size), np.float32)
        for row, (end, length) in enumerate(zip(self._end[texts], lengths, strict=True)):
            states[row, :length] = self._rows[end - length : end]
        return states, there

    def scale(self) -> tuple[Floats, Floats]:
        """Return mean and spread [F] of the states, from a sample."""
        sample = self._rows[:: len(self._rows) // _SAMPLED + 1].astype(np.float32)
        return sample.mean(axis=0), sample.std(axis=0) + np.float32(1e-3)


@dataclass(frozen=True)
class Attention:
    """Which tokens tell [F, A], what they say [F, A], and bias [A]."""

    focus: Floats
    value: Floats
    bias: Floats

    def logits(self, states: States, texts: NDArray[np.intp]) -> Floats:
        """Return [n, A]."""
        found = np.empty((len(texts), len(self.bias)), np.float32)
        order = np.argsort(states.lengths[texts], kind="stable")
        for at in range(0, len(order), BATCH):
            some = order[at : at + BATCH]
            x, there = states.of(texts[some])
            share, said = _attend(x, there, self.focus, self.value)
            found[some] = (share * said).sum(axis=1) + self.bias
        return found


def fit_attention(states: States, texts: NDArray[np.intp], targets: Targets, seed: int, advance: Advance) -> Attention:
    """Fit on some texts by AdamW with dropout on the states; `advance` is called `EPOCHS` times."""
    rng = np.random.default_rng(seed)
    mean, spread = states.scale()
    bias = targets[texts].log_odds()
    shape = states.size, len(bias)
    parameters: list[Floats] = [
        rng.normal(0, 0.02, shape).astype(np.float32),
        rng.normal(0, 0.01, shape).astype(np.float32),
        bias,
    ]
    adam = Adam(parameters, DECAY)
    for epoch in range(EPOCHS):
        batches = _batches(rng.permutation(texts), states.lengths)
        for step, number in enumerate(rng.permutation(len(batches))):
            chosen = batches[number]
            x, there = states.of(chosen)
            kept = (rng.random((len(x), 1, states.size), np.float32) > DROPOUT).astype(np.float32)
            seen: Floats = (x - mean) / spread * kept / np.float32(1 - DROPOUT)
            gradients = _gradients(parameters, seen, there, targets[chosen])
            t, steps = 1 + epoch * len(batches) + step, len(batches)
            adam.step(gradients, RATE * min(1.0, t / steps) * (1 - t / (EPOCHS * steps)) + 1e-6)
        advance()
    focus, value, bias = parameters
    # A text's shares add up to 1, so the mean that is not taken off any more moves each logit by the same.
    value = value / spread[:, None]
    moved: Any = mean @ value
    return Attention(focus / spread[:, None], value, bias - moved)


def _batches(order: NDArray[np.intp], lengths: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    batches: list[NDArray[np.intp]] = []
    for at in range(0, len(order), BATCH * _POOL):
        pool = order[at : at + BATCH * _POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[start : start + BATCH] for start in range(0, len(pool), BATCH)]
    return batches


def _attend(x: Floats, there: NDArray[np.bool_], focus: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Return each token's share and what it says, [n, T, A] both."""
    n, tokens, size = x.shape
    flat = x.reshape(n * tokens, size)
    match = np.where(there[:, :, None], (flat @ focus).reshape(n, tokens, -1), _NEVER)
    share = np.exp(match - match.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    return share, (flat @ value).reshape(n, tokens, -1)


def _gradients(parameters: list[Floats], x: Floats, there: NDArray[np.bool_], targets: Targets) -> list[Floats]:
    focus, value, bias = parameters
    share, said = _attend(x, there, focus, value)
    slope: Any = targets.slope((share * said).sum(axis=1) + bias) / np.float32(len(x))
    d_said = share * slope[:, None]
    d_share = said * slope[:, None]
    d_match = share * (d_share - (share * d_share).sum(axis=1, keepdims=True))
    flat: Any = x.reshape(-1, x.shape[2])
    attributes = slope.shape[1]
    return [flat.T @ d_match.reshape(-1, attributes), flat.T @ d_said.reshape(-1, attributes), slope.sum(axis=0)]
