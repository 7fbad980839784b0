"""Fits the nano student, without torch; needs the extra `train`.

Per attribute there are two logits: a bag of words and pairs (`models.words`), and a small network over pooled token
embeddings, whose hidden layer is also the video's vector.
"""

# pyright: reportUnknownParameterType=false
# scipy has no types.

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.adam import Adam, batches
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
    parameters = initial(x, targets, rng)
    adam = Adam(parameters)
    for chosen, done in batches(rng, x.shape[0], BATCH, EPOCHS, advance):
        xb = x[chosen]
        xb.data *= token_dropout(xb, rng)
        adam.step(gradients(parameters, xb, targets[chosen], rng)[0], rate(done))
    return Network(*parameters)


def initial(x: Counts, targets: Targets, rng: np.random.Generator) -> list[Floats]:
    """Return the parameters of a `Network` that has learned nothing but how frequent attributes are."""
    bias = targets.log_odds()
    return [
        rng.normal(0, 0.1, (x.shape[1], FEATURES)).astype(np.float32),
        rng.normal(0, np.sqrt(2 / FEATURES), (FEATURES, HIDDEN)).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        rng.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, len(bias))).astype(np.float32),
        bias,
    ]


def token_dropout(x: Counts, rng: np.random.Generator) -> Floats:
    """Return what the counts in `x` are multiplied by."""
    return (rng.random(x.data.shape) > TOKEN_DROPOUT).astype(np.float32) / np.float32(1 - TOKEN_DROPOUT)


def rate(done: float) -> float:
    """Return the rate of learning at this share of all steps."""
    return RATE * (1 - done) + 1e-5


def gradients(
    parameters: list[Floats], x: Counts, targets: Targets, rng: np.random.Generator, beside: Floats | None = None
) -> tuple[list[Floats], Floats]:
    """Return those of the parameters, and that of what goes into the hidden layer [n, D]; `beside` goes in as well."""
    features, hidden, hidden_bias, heads, bias = parameters
    text = x @ features
    pre = text @ hidden + hidden_bias
    if beside is not None:
        pre = pre + beside
    keep = ((rng.random(pre.shape, np.float32) > UNIT_DROPOUT) & (pre > 0)) / np.float32(1 - UNIT_DROPOUT)
    units = pre * keep
    d_logits = targets.slope(units @ heads + bias) / np.float32(len(text))
    d_pre = (d_logits @ heads.T) * keep
    slopes = [
        np.asarray(x.T @ (d_pre @ hidden.T)),
        text.T @ d_pre,
        d_pre.sum(axis=0),
        units.T @ d_logits,
        d_logits.sum(axis=0),
    ]
    return slopes, d_pre


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
    return fit_in_folds(
        rows,
        seed,
        advance,
        fit=lambda x, targets, _: fit_network(x, targets, seed, advance),
        logits=lambda network, x, _: network.logits(x),
        text=lambda network: network,
        units=lambda network, x: network.units(x),
    )[0]


N = TypeVar("N")
Index = NDArray[np.intp]


def fit_in_folds(
    rows: Rows,
    seed: int,
    advance: Advance,
    *,
    fit: Callable[[Counts, Targets, Index], N],
    logits: Callable[[N, Counts, Index], Floats],
    text: Callable[[N], Network],
    units: Callable[[N, Counts], Floats],
) -> tuple[Nano, N]:
    """Return a student of words and a network, and the network: `fit` on some rows, with `logits` of others.

    Its part that reads is `text`, its hidden layer over all rows `units`.
    """
    tokenizer = train_tokenizer(rows.texts, VOCABULARY)
    tokenizer.enable_truncation(MAX_TOKENS)
    vocabulary = tokenizer.get_vocab_size()
    counts, targets = count_words(tokenize(tokenizer, rows.texts), vocabulary), Targets.of(rows)
    x = counts[:, :vocabulary].tocsr()
    fold = np.random.default_rng(seed).permutation(len(rows.texts)) % FOLDS
    found = np.zeros((2, *rows.q.shape), np.float32)
    for number in range(FOLDS):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        found[0, outside] = fit_words(counts[inside], targets[inside], advance).logits(counts[outside])
        found[1, outside] = logits(fit(x[inside], targets[inside], inside), x[outside], outside)
    everything = np.arange(len(rows.texts))
    words, network = fit_words(counts, targets, advance), fit(x, targets, everything)
    nano = Nano(
        tokenizer=tokenizer,
        words=words,
        network=text(network),
        centre=units(network, x).mean(axis=0),
        heldout=everything,
        logits=found,
        trained=len(rows.texts),
        learned=fingerprints(rows.texts),
    )
    return nano, network
