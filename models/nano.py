"""Fits the nano student, without torch; needs the extra `train`.

Per attribute there are two logits: a bag of words and pairs (`models.words`), and a small network over pooled token
embeddings, whose hidden layer is also the video's vector.
"""

# pyright: reportUnknownParameterType=false
# scipy has no types.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.adam import Adam
from models.distil_loss import Targets
from models.distil_rows import Rows
from models.features import tokenize, train_tokenizer
from models.learned import Prints, fingerprints
from models.nano_graph import OPSET, Floats, Weights, build
from models.words import Advance, Counts, Words, count_words, fit_words

VOCABULARY, MAX_TOKENS = 16_000, 128
FOLDS = 3
FEATURES, HIDDEN = 64, 128
EPOCHS, BATCH, RATE = 6, 256, 2e-3
TOKEN_DROPOUT, UNIT_DROPOUT = 0.1, 0.3


@dataclass(frozen=True)
class Network:
    """Token features [V, d], hidden layer [d, D] + [D], heads [D, A] + [A]."""

    features: Floats
    hidden: Floats
    hidden_bias: Floats
    heads: Floats
    bias: Floats

    def units(self, x: Counts) -> Floats:
        """Return the hidden layer [n, D]."""
        return np.maximum(x @ self.features @ self.hidden + self.hidden_bias, 0)

    def logits(self, x: Counts) -> Floats:
        """Return [n, A]."""
        return self.units(x) @ self.heads + self.bias


def fit_network(x: Counts, targets: Targets, seed: int, advance: Advance) -> Network:
    """Fit by Adam with dropout on tokens and units; `advance` is called `EPOCHS` times."""
    rng = np.random.default_rng(seed)
    n, vocabulary = x.shape
    known = np.maximum(targets.weight.sum(axis=0), 1e-9)
    prior = np.clip((targets.weight * targets.hard).sum(axis=0) / known, 1e-3, 1 - 1e-3)
    parameters: list[Floats] = [
        rng.normal(0, 0.1, (vocabulary, FEATURES)).astype(np.float32),
        rng.normal(0, np.sqrt(2 / FEATURES), (FEATURES, HIDDEN)).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        rng.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, len(prior))).astype(np.float32),
        np.log(prior / (1 - prior)).astype(np.float32),
    ]
    adam = Adam(parameters)
    batch = min(BATCH, n)
    steps = n // batch
    for epoch in range(EPOCHS):
        order = rng.permutation(n)
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            xb = x[chosen]
            xb.data *= (rng.random(xb.data.shape) > TOKEN_DROPOUT).astype(np.float32) / np.float32(1 - TOKEN_DROPOUT)
            t = 1 + epoch * steps + step
            rate = RATE * (1 - t / (EPOCHS * steps)) + 1e-5
            gradients = _gradients(parameters, xb, targets[chosen], rng)
            adam.step(gradients, rate)
        advance()
    return Network(*parameters)


def _gradients(parameters: list[Floats], x: Counts, targets: Targets, rng: np.random.Generator) -> list[Floats]:
    features, hidden, hidden_bias, heads, bias = parameters
    text = x @ features
    pre = text @ hidden + hidden_bias
    keep = ((rng.random(pre.shape, np.float32) > UNIT_DROPOUT) & (pre > 0)) / np.float32(1 - UNIT_DROPOUT)
    units = pre * keep
    d_logits = targets.slope(units @ heads + bias) / np.float32(len(text))
    d_pre = (d_logits @ heads.T) * keep
    return [
        np.asarray(x.T @ (d_pre @ hidden.T)),
        text.T @ d_pre,
        d_pre.sum(axis=0),
        units.T @ d_logits,
        d_logits.sum(axis=0),
    ]


@dataclass(frozen=True)
class Nano:
    """A fitted student, see `models.distil.Fitted`: `logits` [2, n, A] of every row come from fits without it."""

    tokenizer: Tokenizer
    words: Words
    network: Network
    centre: Floats
    heldout: NDArray[np.intp]
    logits: Floats
    trained: int
    learned: Prints
    space: None = None
    max_tokens: int = MAX_TOKENS
    dim: int = HIDDEN
    opset: int = OPSET

    def graph(self, platt: Floats) -> bytes:
        """Return the model with its calibration, scales and offset [3, A], multiplied in."""
        network = self.network
        return build(
            Weights(
                words=self.words.weights * platt[0],
                features=network.features,
                hidden=network.hidden,
                hidden_bias=network.hidden_bias,
                heads=network.heads * platt[1],
                bias=self.words.bias * platt[0] + network.bias * platt[1] + platt[2],
                centre=self.centre,
            )
        )


def nano_steps(attributes: int) -> int:
    """Return how often `fit_nano` advances."""
    return (FOLDS + 1) * (attributes + EPOCHS)


def fit_nano(rows: Rows, seed: int, advance: Advance) -> Nano:
    """Fit on all rows, and `FOLDS` times on the others of a part, so that all rows tell about texts not trained on."""
    tokenizer = train_tokenizer(rows.texts, VOCABULARY)
    tokenizer.enable_truncation(MAX_TOKENS)
    vocabulary = tokenizer.get_vocab_size()
    x, targets = count_words(tokenize(tokenizer, rows.texts), vocabulary), Targets.of(rows)
    single = x[:, :vocabulary].tocsr()
    fold = np.random.default_rng(seed).permutation(len(rows.texts)) % FOLDS
    logits = np.zeros((2, *rows.q.shape), np.float32)
    for number in range(FOLDS):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        logits[0, outside] = fit_words(x[inside], targets[inside], advance).logits(x[outside])
        logits[1, outside] = fit_network(single[inside], targets[inside], seed, advance).logits(single[outside])
    words, network = fit_words(x, targets, advance), fit_network(single, targets, seed, advance)
    return Nano(
        tokenizer=tokenizer,
        words=words,
        network=network,
        centre=network.units(single).mean(axis=0),
        heldout=np.arange(len(rows.texts)),
        logits=logits,
        trained=len(rows.texts),
        learned=fingerprints(rows.texts),
    )
