"""Heads on a frozen sentence encoder: words, pooled states and attention to tokens; needs the extra `train`."""

# pyright: reportUnknownParameterType=false
# scipy has no types.

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models import attention
from models.adam import Adam, batches
from models.attention import Attention, States, fit_attention
from models.distil_loss import Targets
from models.distil_rows import Rows
from models.encoder import Encoder, read_encoder, session
from models.encoder_graph import HeadWeights, build_encoder
from models.features import pad, tokenize
from models.learned import Prints, fingerprints
from models.words import Advance, Words, count_words, fit_words
from schemas.errors import ConfigurationError

Floats = NDArray[np.float32]

MAX_TOKENS = 128
FOLDS = 3
STATES = 4
"""The outputs of so many upper layers are pooled: what a text feels like lies below the last one, too."""

HIDDEN, EPOCHS, BATCH, RATE = 256, 8, 128, 1e-3
INPUT_DROPOUT, UNIT_DROPOUT, DECAY = 0.2, 0.4, 0.02
_RUN, _CHUNK = 32, 1_024


@dataclass(frozen=True)
class Heads:
    """One hidden layer [F, D] + [D] and its heads [D, A], beside a direct path [F, A] + [A], over pooled states."""

    hidden: Floats
    hidden_bias: Floats
    heads: Floats
    direct: Floats
    bias: Floats

    def units(self, x: Floats) -> Floats:
        """Return the hidden layer [n, D]."""
        pre: Floats = x @ self.hidden + self.hidden_bias
        return np.maximum(pre, 0).astype(np.float32, copy=False)

    def logits(self, x: Floats) -> Floats:
        """Return [n, A]."""
        units: Any = self.units(x)
        return units @ self.heads + x @ self.direct + self.bias


def fit_heads(x: Floats, targets: Targets, seed: int, advance: Advance) -> Heads:
    """Fit by AdamW with dropout on inputs and units; `advance` is called `EPOCHS` times."""
    rng = np.random.default_rng(seed)
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-3
    (n, size), bias = x.shape, targets.log_odds()
    parameters: list[Floats] = [
        rng.normal(0, np.sqrt(1 / size), (size, HIDDEN)).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        rng.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, len(bias))).astype(np.float32),
        np.zeros((size, len(bias)), np.float32),
        bias,
    ]
    adam = Adam(parameters, DECAY)
    for chosen, done in batches(rng, n, BATCH, EPOCHS, advance):
        kept = (rng.random((len(chosen), size), np.float32) > INPUT_DROPOUT).astype(np.float32)
        seen = (x[chosen] - mean) / spread * kept / np.float32(1 - INPUT_DROPOUT)
        gradients = _gradients(parameters, seen, targets[chosen], rng)
        adam.step(gradients, RATE * min(1.0, done * EPOCHS) * (1 - done) + 1e-6)
    hidden, hidden_bias, heads, direct, bias = parameters
    hidden, direct = hidden / spread[:, None], direct / spread[:, None]
    return Heads(hidden, hidden_bias - mean @ hidden, heads, direct, bias - mean @ direct)


def _gradients(parameters: list[Floats], x: Floats, targets: Targets, rng: np.random.Generator) -> list[Floats]:
    hidden, hidden_bias, heads, direct, bias = parameters
    pre: Any = x @ hidden + hidden_bias
    kept = (rng.random(pre.shape, np.float32) > UNIT_DROPOUT) & (pre > 0)
    keep: Any = kept.astype(np.float32) / np.float32(1 - UNIT_DROPOUT)
    units = pre * keep
    logits: Floats = units @ heads + x @ direct + bias
    d_logits: Any = targets.slope(logits) / np.float32(len(x))
    d_pre = (d_logits @ heads.T) * keep
    return [x.T @ d_pre, d_pre.sum(axis=0), units.T @ d_logits, x.T @ d_logits, d_logits.sum(axis=0)]


@dataclass(frozen=True)
class EncoderStudent:
    """A fitted student, see `models.distil.Fitted`: `logits` [3, n, A] of every row come from fits without it."""

    encoder: Encoder
    tokenizer: Tokenizer
    vocabulary: int
    unknown: int
    words: Words
    heads: Heads
    attention: Attention
    centre: Floats
    heldout: NDArray[np.intp]
    logits: Floats
    trained: int
    learned: Prints
    space: None = None
    max_tokens: int = MAX_TOKENS
    dim: int = HIDDEN

    @property
    def opset(self) -> int:
        """The encoder's."""
        return next(one.version for one in self.encoder.model.opset_import if one.domain in ("", "ai.onnx"))

    def graph(self, platt: Floats) -> bytes:
        """Return the encoder with heads and calibration, scales and offset [4, A], inside."""
        heads, tokens = self.heads, self.attention
        weights = HeadWeights(
            words=self.words.weights * platt[0],
            hidden=heads.hidden,
            hidden_bias=heads.hidden_bias,
            heads=heads.heads * platt[1],
            direct=heads.direct * platt[1],
            focus=tokens.focus,
            value=tokens.value * platt[2],
            bias=self.words.bias * platt[0] + heads.bias * platt[1] + tokens.bias * platt[2] + platt[3],
            centre=self.centre,
        )
        upper = self.encoder.states[-STATES:]
        return build_encoder(self.encoder, upper, seen_by_attention(upper), weights, self.vocabulary, self.unknown)


def seen_by_attention(upper: Sequence[str]) -> Sequence[str]:
    """Return those of the upper layers' states that attention sees: the last one, and the one two below it."""
    return [upper[max(0, len(upper) - 3)], upper[-1]]


def encoder_steps(rows: int, attributes: int) -> int:
    """Return how often `fit_encoder` advances."""
    return -(-rows // _CHUNK) + (FOLDS + 1) * (attributes + EPOCHS + attention.EPOCHS)


def fit_encoder(rows: Rows, encoder: Path, tokenizer: Path, seed: int, advance: Advance) -> EncoderStudent:
    """Encode all rows once; then fit words, heads and attention as `models.nano.fit_nano` does.

    Raises:
        ConfigurationError: encoder or tokenizer can't be read, or they don't belong together.

    """
    read, (words_of, vocabulary, unknown) = read_encoder(encoder), read_tokenizer(tokenizer, rows.texts)
    if vocabulary > read.vocabulary:
        raise ConfigurationError(
            f"{tokenizer} has {vocabulary} tokens and {encoder} {read.vocabulary}; give the encoder's own tokenizer"
        )
    tokens = tokenize(words_of, rows.texts)
    pooled, states = pool(read, [[t if t < vocabulary else unknown for t in row] for row in tokens], advance)
    counts, targets = count_words(tokens, words_of.get_vocab_size()), Targets.of(rows)
    fold = np.random.default_rng(seed).permutation(len(rows.texts)) % FOLDS
    logits = np.zeros((3, *rows.q.shape), np.float32)
    for number in range(FOLDS):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        logits[0, outside] = fit_words(counts[inside], targets[inside], advance).logits(counts[outside])
        logits[1, outside] = fit_heads(pooled[inside], targets[inside], seed, advance).logits(pooled[outside])
        logits[2, outside] = fit_attention(states, inside, targets, seed, advance).logits(states, outside)
    heads = fit_heads(pooled, targets, seed, advance)
    return EncoderStudent(
        encoder=read,
        tokenizer=words_of,
        vocabulary=vocabulary,
        unknown=unknown,
        words=fit_words(counts, targets, advance),
        heads=heads,
        attention=fit_attention(states, np.arange(len(rows.texts)), targets, seed, advance),
        centre=heads.units(pooled).mean(axis=0),
        heldout=np.arange(len(rows.texts)),
        logits=logits,
        trained=len(rows.texts),
        learned=fingerprints(rows.texts),
    )


def read_tokenizer(path: Path, texts: Sequence[str]) -> tuple[Tokenizer, int, int]:
    """Return a tokenizer that has its own tokens for symbols of `texts`, its first vocabulary's size, and [UNK].

    Emoji are unknown to BERT, and telling; the encoder still sees [UNK] there, but the words have them.

    Raises:
        ConfigurationError: it can't be read, or has no [UNK].

    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ConfigurationError(f"{path}: {error}; give the encoder's tokenizer.json with --tokenizer") from error
    unknown = tokenizer.token_to_id("[UNK]")
    if unknown is None:
        raise ConfigurationError(f"{path}: no [UNK] in its vocabulary; give the tokenizer.json of a BERT")
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    vocabulary = tokenizer.get_vocab_size()
    counts: dict[str, int] = {}
    for text in texts:
        for symbol in text:
            if ord(symbol) > 0x2000 and not symbol.isalnum() and not symbol.isspace():
                counts[symbol] = counts.get(symbol, 0) + 1
    symbols = sorted(symbol for symbol, n in counts.items() if n > 1)
    tokenizer.add_tokens([s for s in symbols if unknown in tokenizer.encode(s, add_special_tokens=False).ids])
    return tokenizer, vocabulary, unknown


def pool(encoder: Encoder, tokens: Sequence[Sequence[int]], advance: Advance) -> tuple[Floats, States]:
    """Return the mean over tokens of the upper layers' states, [n, STATES * dim], and those that attention sees."""
    upper = encoder.states[-STATES:]
    seen = [upper.index(name) for name in seen_by_attention(upper)]
    run: Callable[..., Any] = session(encoder.model, upper).run
    kept = States([len(row) for row in tokens], len(seen) * encoder.dim)
    inputs = [one.name for one in encoder.model.graph.input]
    pooled = np.empty((len(tokens), len(upper) * encoder.dim), np.float32)
    by_length = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    for chunk in range(0, len(by_length), _CHUNK):
        for at in range(chunk, min(chunk + _CHUNK, len(by_length)), _RUN):
            chosen = by_length[at : min(at + _RUN, chunk + _CHUNK)]
            ids, mask = pad([tokens[i] for i in chosen])
            feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            found: list[Floats] = run(None, {name: feed[name] for name in inputs})
            weight = mask[:, :, None].astype(np.float32)
            means = [(state * weight).sum(axis=1) / weight.sum(axis=1) for state in found]
            pooled[chosen] = np.concatenate(means, axis=1)
            joined = np.concatenate([found[i] for i in seen], axis=2)
            for row, text in enumerate(chosen):
                kept.put(text, joined[row, : len(tokens[text])])
        advance()
    return pooled, kept
