"""Distils new heads on the trunk of a bundle, so that vectors stay where they are; needs the extra `train`.

The trunk is all that makes the vector: tokenizer, encoder or token features, hidden layer. It stays as it is, bit for
bit; words, pairs and heads are learned anew, for whatever attributes. So vectors in the table and users' tastes stay
valid, and workers can swap the new student in (`models.successor`).
"""

# pyright: reportUnknownParameterType=false
# scipy and onnx have partial types.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from scipy.optimize import minimize
from tokenizers import Tokenizer

from models import attention
from models.attention import Attention, States, fit_attention
from models.bundle import MODEL, Manifest, load_bundle, load_learned
from models.calibration import MIN_GOLDEN, MIN_POSITIVES
from models.distil_loss import Targets
from models.distil_rows import Rows
from models.features import load_tokenizer, pad, tokenize
from models.learned import Prints, among, unpacked
from models.words import PAIRS, Advance, Words, count_words, fit_words
from schemas.errors import BundleError

Floats = NDArray[np.float32]

FOLDS = 3
PENALTY, STEPS = 3.0, 100
_RUN, _CHUNK = 32, 1_024
_REPLACED = ("table", "pairs", "widths", "heads", "direct", "focus", "value", "bias")


@dataclass(frozen=True)
class Trunk:
    """A bundle whose heads are to be replaced.

    `weights` are those that vibestream put into the model, by name; there, `prefix` is before it.
    """

    manifest: Manifest
    model: onnx.ModelProto
    tokenizer: Tokenizer
    prefix: str
    weights: Mapping[str, NDArray[Any]]
    learned: Prints


def read_trunk(path: Path) -> Trunk:
    """Read the trunk of the bundle in folder `path`.

    Raises:
        BundleError: the bundle is damaged, or not one that `vibestream distil` made.

    """
    bundle = load_bundle(path)
    if bundle.manifest.frames or bundle.manifest.sound:
        raise BundleError(
            f"{path} sees or hears, and heads are only learned anew on students that read; distil it again"
        )
    model = onnx.load_from_string(bundle.model)
    tensors = {one.name: one for one in model.graph.initializer}
    prefix = "student/" if "student/hidden" in tensors else ""
    names = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
    weights = {name: numpy_helper.to_array(tensors[prefix + name]) for name in names if name in _REPLACED}
    missing = [name for name in ("table", "pairs", "heads", "bias") if name not in weights]
    if missing:
        raise BundleError(
            f"{path / MODEL} has no {', '.join(missing)}: its heads can't be replaced; give a bundle that this version"
            " of `vibestream distil` made"
        )
    tokenizer = load_tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)
    return Trunk(bundle.manifest, model, tokenizer, prefix, weights, unpacked(load_learned(path)))


@dataclass(frozen=True)
class Linear:
    """Heads [F, A] + [A] over what the trunk gives of a text."""

    weights: Floats
    bias: Floats

    def logits(self, x: Floats) -> Floats:
        """Return [n, A]."""
        return x @ self.weights + self.bias


def fit_linear(x: Floats, targets: Targets, blind: int = 0) -> Linear:
    """Fit logistic regressions on standardised columns by L-BFGS; the first `blind` columns get no weight."""
    mean, spread = x.mean(axis=0), x.std(axis=0) + np.float32(1e-3)
    z = (x - mean) / spread
    z[:, :blind] = 0
    shape = z.shape[1] + 1, targets.hard.shape[1]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w = flat.reshape(shape)
        used = w.astype(np.float32)
        logits = z @ used[:-1] + used[-1]
        slope = targets.slope(logits)
        gradient = np.vstack([z.T @ slope, slope.sum(axis=0)]).astype(np.float64)
        gradient[:-1] += PENALTY * w[:-1]
        return targets.loss(logits) + PENALTY / 2 * float((w[:-1] ** 2).sum()), gradient.ravel()

    fitted: Any = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    weights = fitted.x.reshape(shape)[:-1].astype(np.float32) / spread[:, None]
    return Linear(weights, fitted.x.reshape(shape)[-1].astype(np.float32) - mean @ weights)


@dataclass(frozen=True)
class Resident:
    """New heads on a trunk, see `models.distil.Fitted`: `logits` [k, h, A] come from fits without those rows.

    They are those of words, heads and, on an encoder, attention.
    """

    trunk: Trunk
    words: Words
    heads: Linear
    attention: Attention | None
    heldout: NDArray[np.intp]
    logits: Floats
    trained: int

    @property
    def tokenizer(self) -> Tokenizer:
        """The trunk's."""
        return self.trunk.tokenizer

    @property
    def learned(self) -> Prints:
        """What the trunk has learned."""
        return self.trunk.learned

    @property
    def space(self) -> str:
        """Whose trunk it is."""
        return f"{self.trunk.manifest.name} {self.trunk.manifest.version}"

    @property
    def max_tokens(self) -> int:
        """The trunk's."""
        return self.trunk.manifest.max_tokens

    @property
    def dim(self) -> int:
        """The trunk's."""
        return self.trunk.manifest.dim

    @property
    def opset(self) -> int:
        """The trunk's."""
        return self.trunk.manifest.opset

    def graph(self, platt: Floats) -> bytes:
        """Return the trunk's model with other words and heads, and the calibration [k + 1, A] multiplied in."""
        trunk, attributes = self.trunk, platt.shape[1]
        model = onnx.ModelProto()
        model.CopyFrom(trunk.model)
        words, heads = self.words.weights * platt[0], self.heads.weights * platt[1]
        table = words[:-PAIRS].astype(np.float16)
        if "widths" in trunk.weights:  # token features lie beside the words
            features = trunk.weights["table"][:, int(trunk.weights["widths"][0]) :]
            table = np.concatenate([table, features], axis=1)
        changed = {
            "table": table,
            "pairs": words[-PAIRS:].astype(np.float16),
            "widths": np.array([attributes, table.shape[1] - attributes], np.int64),
            "heads": heads[: self.dim],
            "direct": heads[self.dim :],
            "bias": self.words.bias * platt[0] + self.heads.bias * platt[1] + platt[-1],
        }
        if self.attention:
            changed["focus"], changed["value"] = self.attention.focus, self.attention.value * platt[2]
            changed["bias"] += self.attention.bias * platt[2]
        for tensor in model.graph.initializer:
            name = tensor.name.removeprefix(trunk.prefix)
            if tensor.name == trunk.prefix + name and name in trunk.weights:
                tensor.CopyFrom(numpy_helper.from_array(changed[name], tensor.name))
        for output in model.graph.output:
            if output.name == "probability":
                output.type.tensor_type.shape.dim[1].dim_value = attributes
        onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)


def space_steps(trunk: Trunk, rows: int, attributes: int) -> int:
    """Return how often `fit_space` advances."""
    looks = attention.EPOCHS if "focus" in trunk.weights else 0
    return -(-rows // _CHUNK) + (FOLDS + 1) * (attributes + 1 + looks)


def fit_space(rows: Rows, trunk: Trunk, seed: int, advance: Advance) -> Resident:
    """Let the trunk read all rows once; then fit words and heads as `models.nano.fit_nano` does.

    The hidden layer knows the labels of what the trunk has learned, so how far to trust it can only be told on other
    rows, which alone are calibrated on. Where these are too few, the heads don't see it.
    """
    tokens = tokenize(trunk.tokenizer, rows.texts)
    x, states = _features(trunk, tokens, advance)
    fresh = _fresh(rows, trunk)
    blind = 0 if fresh.size else trunk.manifest.dim
    counts, targets = count_words(tokens, len(trunk.weights["table"])), Targets.of(rows)
    fold = np.random.default_rng(seed).permutation(len(rows.texts)) % FOLDS
    logits = np.zeros((3 if states else 2, *rows.q.shape), np.float32)

    def fit(inside: NDArray[np.intp]) -> tuple[Words, Linear, Attention | None]:
        words, heads = (
            fit_words(counts[inside], targets[inside], advance),
            fit_linear(x[inside], targets[inside], blind),
        )
        advance()
        return words, heads, fit_attention(states, inside, targets, seed, advance) if states else None

    for number in range(FOLDS):
        outside = np.flatnonzero(fold == number)
        words, heads, looking = fit(np.flatnonzero(fold != number))
        logits[:2, outside] = words.logits(counts[outside]), heads.logits(x[outside])
        if states and looking:
            logits[2, outside] = looking.logits(states, outside)
    words, heads, looking = fit(np.arange(len(rows.texts)))
    heldout = fresh if fresh.size else np.arange(len(rows.texts))
    return Resident(trunk, words, heads, looking, heldout, logits[:, heldout], len(rows.texts))


def _fresh(rows: Rows, trunk: Trunk) -> NDArray[np.intp]:
    """Return the rows that the trunk has not learned; none where they are too few to calibrate every attribute on."""
    fresh = np.flatnonzero(~among(rows.texts, trunk.learned))
    known = rows.weight[fresh] > 0
    positives = (known & (rows.q[fresh] > 0.5)).sum(axis=0)
    enough = (known.sum(axis=0) >= MIN_GOLDEN) & (positives >= MIN_POSITIVES)
    return fresh if enough.all() else fresh[:0]


def _features(trunk: Trunk, tokens: Sequence[Sequence[int]], advance: Advance) -> tuple[Floats, States | None]:
    """Return what heads can see of each text [n, F]: the hidden layer, and pooled states where there are any.

    And what attention sees, on an encoder.
    """
    import onnxruntime as ort

    model = onnx.ModelProto()
    model.CopyFrom(trunk.model)
    reads = "focus" in trunk.weights
    names = [trunk.prefix + name for name in (["units", "pooled", "states"] if reads else ["units"])]
    states = States([len(row) for row in tokens], len(trunk.weights["focus"])) if reads else None
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[Floats] = []
    by_length = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    for chunk in range(0, len(by_length), _CHUNK):
        for at in range(chunk, min(chunk + _CHUNK, len(by_length)), _RUN):
            chosen = by_length[at : min(at + _RUN, chunk + _CHUNK)]
            ids, mask = pad([tokens[i] for i in chosen])
            parts: Any = session.run(names, {"ids": ids, "mask": mask})
            found.append(np.concatenate(parts[:2], axis=1))
            if states:
                for row, text in enumerate(chosen):
                    states.put(text, parts[2][row, : len(tokens[text])])
        advance()
    ordered = np.concatenate(found)
    features = np.empty_like(ordered)
    features[by_length] = ordered
    return features, states
