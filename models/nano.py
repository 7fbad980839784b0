"""Trains the nano student, without torch; needs the extra `train`.

Per attribute two logits are added: a bag of words, which is logistic regression on naive-Bayes-scaled counts (Wang &
Manning 2012), and a small network over pooled token embeddings, whose hidden layer is also the video's vector.
"""

# pyright: reportUnknownParameterType=false
# scipy has no types.

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit

from models.bundle import (
    MANIFEST,
    MODEL,
    TOKENIZER,
    AttributeMetrics,
    BundleAttribute,
    Golden,
    Manifest,
    Metrics,
    Training,
    default_bundle,
)
from models.cascade import BandLimits, cheapest_band
from models.features import tokenize, train_tokenizer
from models.goemotions import LabelledTexts, read_goemotions, read_label_names
from models.nano_graph import OPSET, Floats, Weights, build
from schemas.attributes import Catalogue, load_catalogue

Counts = Any
"""A scipy.sparse.csr_matrix, float32 [n, V], of token counts over the square root of the text's length."""

Advance = Callable[[], None]
"""Called once per finished step, for a progress bar."""

VOCABULARY, MAX_TOKENS = 16_000, 128
HELDOUT = 0.15
FEATURES, HIDDEN = 64, 128
EPOCHS, BATCH, RATE = 6, 256, 2e-3
TOKEN_DROPOUT, UNIT_DROPOUT = 0.1, 0.3
WORD_PENALTY, WORD_FLOOR = 1 / 3, 0.3
STACK_PENALTY = 1.0


def count_matrix(rows: Sequence[Sequence[int]], vocabulary: int) -> Counts:
    """Return the texts' tokens as the graph pools them."""
    lengths = np.array([len(row) for row in rows])
    columns = np.fromiter((token for row in rows for token in row), np.int32, int(lengths.sum()))
    values = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
    matrix = csr_matrix((values, columns, np.append(0, np.cumsum(lengths))), (len(rows), vocabulary))
    matrix.sum_duplicates()
    return matrix


@dataclass(frozen=True)
class Words:
    """A bag of words: weights [V, A] and bias [A]."""

    weights: Floats
    bias: Floats

    def logits(self, x: Counts) -> Floats:
        """Return [n, A]."""
        return x @ self.weights + self.bias


def fit_words(x: Counts, y: NDArray[np.bool_], advance: Advance) -> Words:
    """Fit one logistic regression per attribute by L-BFGS; `advance` is called A times.

    Each token's column is scaled by its floored absolute log-odds, so that the penalty spares telling words.
    """
    present = (x > 0).astype(np.float32)
    weights = np.zeros((x.shape[1], y.shape[1]), np.float32)
    bias = np.zeros(y.shape[1], np.float32)
    transposed = x.T.tocsr()
    for a in range(y.shape[1]):
        target = y[:, a].astype(np.float32)
        with_, without = present.T @ target + 1, present.T @ (1 - target) + 1
        scale = WORD_FLOOR + np.abs(np.log(with_ / with_.sum()) - np.log(without / without.sum()))

        def loss(
            w: NDArray[np.float64], target: Floats = target, scale: Floats = scale
        ) -> tuple[float, NDArray[np.float64]]:
            z = x @ (scale * w[:-1]).astype(np.float32) + w[-1]
            error = (expit(z) - target).astype(np.float32)
            value = np.logaddexp(0, z).sum() - z @ target + WORD_PENALTY / 2 * (w[:-1] @ w[:-1])
            return float(value), np.append(scale * (transposed @ error) + WORD_PENALTY * w[:-1], error.sum())

        fitted: Any = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 60})
        weights[:, a] = scale * fitted.x[:-1]
        bias[a] = fitted.x[-1]
        advance()
    return Words(weights, bias)


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


def fit_network(x: Counts, y: NDArray[np.bool_], seed: int, advance: Advance) -> Network:
    """Fit by Adam with dropout on tokens and units; `advance` is called `EPOCHS` times."""
    rng = np.random.default_rng(seed)
    n, vocabulary = x.shape
    target = y.astype(np.float32)
    prior = np.clip(target.mean(axis=0), 1e-3, 1 - 1e-3)
    parameters = [
        rng.normal(0, 0.1, (vocabulary, FEATURES)).astype(np.float32),
        rng.normal(0, np.sqrt(2 / FEATURES), (FEATURES, HIDDEN)).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        rng.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, y.shape[1])).astype(np.float32),
        np.log(prior / (1 - prior)),
    ]
    first = [np.zeros_like(p) for p in parameters]
    second = [np.zeros_like(p) for p in parameters]
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
            gradients = _gradients(parameters, xb, target[chosen], rng)
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        advance()
    return Network(*parameters)


def _gradients(parameters: list[Floats], x: Counts, y: Floats, rng: np.random.Generator) -> list[Floats]:
    features, hidden, hidden_bias, heads, bias = parameters
    text = x @ features
    pre = text @ hidden + hidden_bias
    keep = ((rng.random(pre.shape, np.float32) > UNIT_DROPOUT) & (pre > 0)) / np.float32(1 - UNIT_DROPOUT)
    units = pre * keep
    d_logits = (expit(units @ heads + bias) - y) / np.float32(len(y))
    d_pre = (d_logits @ heads.T) * keep
    return [
        np.asarray(x.T @ (d_pre @ hidden.T)),
        text.T @ d_pre,
        d_pre.sum(axis=0),
        units.T @ d_logits,
        d_logits.sum(axis=0),
    ]


def stack(words: Words, network: Network, x: Counts, y: NDArray[np.bool_]) -> Weights:
    """Calibrate on held-out texts and return the weights of the graph.

    Platt scaling with two logits: sigmoid(a * words + b * network + c) per attribute. A small penalty pulls (a, b, c)
    to (1, 0, 0), which decides where an attribute is too rare to say.
    """
    logits = np.stack([words.logits(x), network.logits(x)])
    scale = np.zeros((3, y.shape[1]), np.float32)
    start = np.array([1.0, 0.0, 0.0])
    for a in range(y.shape[1]):
        inputs: NDArray[np.float64] = np.vstack([logits[:, :, a], np.ones(len(y))]).astype(np.float64)

        def loss(
            w: NDArray[np.float64], inputs: NDArray[np.float64] = inputs, labels: NDArray[np.bool_] = y[:, a]
        ) -> tuple[float, NDArray[np.float64]]:
            z = w @ inputs
            value = np.logaddexp(0, z).sum() - z @ labels + STACK_PENALTY / 2 * ((w - start) @ (w - start))
            return float(value), inputs @ (expit(z) - labels) + STACK_PENALTY * (w - start)

        fitted: Any = minimize(loss, start, jac=True, method="L-BFGS-B")
        scale[:, a] = fitted.x
    return Weights(
        words=words.weights * scale[0],
        features=network.features,
        hidden=network.hidden,
        hidden_bias=network.hidden_bias,
        heads=network.heads * scale[1],
        bias=words.bias * scale[0] + network.bias * scale[1] + scale[2],
        centre=network.units(x).mean(axis=0),
    )


def probabilities(weights: Weights, x: Counts) -> Floats:
    """Return what the graph gives, [n, A], without ONNX."""
    network = Network(weights.features, weights.hidden, weights.hidden_bias, weights.heads, weights.bias)
    return expit(x @ weights.words + network.logits(x))


def train(
    labelled: LabelledTexts,
    dev: LabelledTexts,
    catalogue: Catalogue,
    out: Path,
    *,
    data: str,
    licence: str,
    version: int = 1,
    seed: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Train on `labelled`, measure on `dev`, write the bundle and return its folder, `out`/nano/`version`.

    A seeded `HELDOUT` share of `labelled` is kept from training: calibration and bands come from it. The bands are
    point estimates, not certified. `data` and `licence` go into the manifest.
    """
    bar = progress or Progress(disable=True)
    job = bar.add_task("train nano", total=len(catalogue.ids) + EPOCHS)
    order = np.random.default_rng(seed).permutation(len(labelled.texts))
    heldout, fitted = np.split(order, [int(len(order) * HELDOUT)])
    tokenizer = train_tokenizer([labelled.texts[int(i)] for i in fitted], VOCABULARY)
    tokenizer.enable_truncation(MAX_TOKENS)
    x, x_dev = (count_matrix(tokenize(tokenizer, part.texts), tokenizer.get_vocab_size()) for part in (labelled, dev))
    y = labelled.labels
    words = fit_words(x[fitted], y[fitted], lambda: bar.advance(job))
    network = fit_network(x[fitted], y[fitted], seed, lambda: bar.advance(job))
    weights = stack(words, network, x[heldout], y[heldout])

    p = probabilities(weights, x[heldout])
    bands = [
        cheapest_band(p[:, a], y[heldout, a], attribute.target_precision, attribute.target_recall)
        for a, attribute in enumerate(catalogue.attributes)
    ]
    thresholds = [_best_threshold(p[:, a], y[heldout, a]) for a in range(len(bands))]
    golden = ["", *(attribute.positive_examples[0] for attribute in catalogue.attributes)]
    golden_x = count_matrix(tokenize(tokenizer, golden), tokenizer.get_vocab_size())
    model, tokens = build(weights), tokenizer.to_str().encode()
    manifest = Manifest(
        name="nano",
        version=version,
        files={MODEL: sha256(model).hexdigest(), TOKENIZER: sha256(tokens).hexdigest()},
        attributes=tuple(
            BundleAttribute(id=attribute.id, version=attribute.version, lo=band.lo, hi=band.hi)
            for attribute, band in zip(catalogue.attributes, bands, strict=True)
        ),
        certified=False,
        dim=HIDDEN,
        max_tokens=MAX_TOKENS,
        opset=OPSET,
        training=Training(data=data, licence=licence, rows=len(fitted), heldout_rows=len(heldout), seed=seed),
        metrics=measure(probabilities(weights, x_dev), dev.labels, catalogue.ids, bands, thresholds),
        golden=Golden(
            texts=tuple(golden),
            probability=tuple(tuple(row) for row in probabilities(weights, golden_x).round(5).tolist()),
        ),
    )
    path = out / manifest.name / str(version)
    path.mkdir(parents=True, exist_ok=True)
    (path / MODEL).write_bytes(model)
    (path / TOKENIZER).write_bytes(tokens)
    (path / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    return path


def measure(
    p: Floats, y: NDArray[np.bool_], ids: Sequence[str], bands: Sequence[BandLimits], thresholds: Sequence[float]
) -> Metrics:
    """Return F1, calibration error and bands' shares of probabilities [n, A] against labels."""
    lo, hi = np.array(bands).T
    accepted = p >= hi
    asked = (p >= lo) & ~accepted
    attributes = {
        name: AttributeMetrics(
            positives=int(y[:, a].sum()),
            f1=_f1(p[:, a] >= thresholds[a], y[:, a]),
            ece=_calibration_error(p[:, a], y[:, a]),
            accept=_mean(accepted[:, a]) or 0.0,
            uncertain=_mean(asked[:, a]) or 0.0,
            accept_precision=_mean(y[accepted[:, a], a]),
            precision=_mean(y[accepted[:, a] | (asked & y)[:, a], a]),
            recall=_mean((accepted | asked)[y[:, a], a]),
        )
        for a, name in enumerate(ids)
    }
    return Metrics(
        macro_f1=round(sum(m.f1 for m in attributes.values()) / len(ids), 4),
        macro_ece=round(sum(m.ece for m in attributes.values()) / len(ids), 4),
        uncertain_any=_mean(asked.any(axis=1)) or 0.0,
        attributes=attributes,
    )


def _f1(predicted: NDArray[np.bool_], y: NDArray[np.bool_]) -> float:
    return round(float(2 * (predicted & y).sum() / max(predicted.sum() + y.sum(), 1)), 4)


def _best_threshold(p: Floats, y: NDArray[np.bool_]) -> float:
    order = np.argsort(-p, kind="stable")
    f1 = 2 * np.cumsum(y[order]) / (np.arange(1, len(p) + 1) + y.sum())
    return float(p[order][np.argmax(f1)])


def _calibration_error(p: Floats, y: NDArray[np.bool_], bins: int = 15) -> float:
    """Equal-mass ECE: mean distance of probability and frequency over bins of equally many texts."""
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    return round(float(sum(abs(p[i].sum() - y[i].sum()) for i in parts) / len(p)), 4)


def _mean(values: NDArray[np.bool_]) -> float | None:
    return round(float(values.mean()), 4) if values.size else None


def main() -> None:
    """Rebuild the bundle from GoEmotions."""
    parser = argparse.ArgumentParser(prog="python -m models.nano", description=main.__doc__)
    for name in ("train", "dev", "labels"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=default_bundle().parents[1], help="folder of <name>/<version>")
    parser.add_argument("--version", type=int, default=1)
    arguments = parser.parse_args()
    catalogue = load_catalogue()
    names = read_label_names(arguments.labels)
    labelled, dev = (read_goemotions(path, names, catalogue) for path in (arguments.train, arguments.dev))
    with Progress() as progress:
        path = train(
            labelled,
            dev,
            catalogue,
            arguments.out,
            data="GoEmotions (Demszky et al. 2020), google-research/goemotions, train split as published",
            licence="Apache-2.0",
            version=arguments.version,
            progress=progress,
        )
        progress.print(f"wrote {path}")


if __name__ == "__main__":
    main()
