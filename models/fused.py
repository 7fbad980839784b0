"""Fits a student that reads, sees and hears: `models.nano` with two more ways into its hidden layer; needs `train`.

Late joint fusion: each modality is projected into the hidden layer, where they add up; what is missing adds nothing.
Whole modalities are dropped at random while it learns (ModDrop, Neverova et al. 2016), so that it is of use with any
of them alone. Its vector is the fused hidden layer.
"""

# pyright: reportUnknownParameterType=false
# scipy has no types.

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.adam import Adam, batches
from models.distil_loss import Targets
from models.distil_rows import Rows
from models.fused_graph import Modality, fuse
from models.learned import Prints
from models.media_rows import MediaRows
from models.nano import (
    BATCH,
    EPOCHS,
    HIDDEN,
    MAX_TOKENS,
    Nano,
    Network,
    fit_in_folds,
    gradients,
    initial,
    rate,
    token_dropout,
)
from models.nano_graph import OPSET, Floats
from models.words import Advance, Counts
from schemas.errors import ConfigurationError

TEXT_DROPOUT, MEDIA_DROPOUT, DECAY = 0.15, 0.3, 0.01
_SPREAD = 1e-3
_OF_TEXT = len(fields(Network))


@dataclass(frozen=True)
class FusedNetwork:
    """The network over text, and per modality (frames, sound) weights [D, hidden] and bias [hidden] into its layer."""

    text: Network
    modalities: tuple[Modality, ...]

    def units(self, x: Counts, media: MediaRows) -> Floats:
        """Return the fused hidden layer [n, hidden]."""
        pre = x @ self.text.features @ self.text.hidden + self.text.hidden_bias
        for one in self.modalities:
            values, there = one.of(media)
            pre = pre + there[:, None] * (values @ one.weights + one.bias)
        return np.maximum(pre, 0).astype(np.float32)

    def logits(self, x: Counts, media: MediaRows) -> Floats:
        """Return [n, A]."""
        return self.units(x, media) @ self.text.heads + self.text.bias


def fit_fused_network(x: Counts, media: MediaRows, targets: Targets, seed: int, advance: Advance) -> FusedNetwork:
    """Fit by AdamW with dropout on tokens, units and whole modalities; `advance` is called `EPOCHS` times."""
    rng = np.random.default_rng(seed)
    scales = {name: _scale(*inputs) for name, inputs in _inputs(media).items()}
    names = list(scales)
    parameters = initial(x, targets, rng)
    for name in names:
        size = len(scales[name][0])
        parameters += [
            rng.normal(0, np.sqrt(1 / size), (size, HIDDEN)).astype(np.float32),
            np.zeros(HIDDEN, np.float32),
        ]
    adam = Adam(parameters, DECAY)
    for chosen, done in batches(rng, x.shape[0], BATCH, EPOCHS, advance):
        present, reads = _dropped(media[chosen], names, rng)
        xb = x[chosen]
        xb.data *= token_dropout(xb, rng) * np.repeat(reads, np.diff(xb.indptr))
        values = [
            ((_inputs(media[chosen])[name][0] - scales[name][0]) / scales[name][1]) * present[name][:, None]
            for name in names
        ]
        slopes = _gradients(parameters, xb, values, [present[name] for name in names], targets[chosen], rng)
        adam.step(slopes, rate(done))
    modalities: list[Modality] = []
    for k, name in enumerate(names):
        mean, spread = scales[name]
        scaled, bias = parameters[_OF_TEXT + 2 * k : _OF_TEXT + 2 * k + 2]
        weights = scaled / spread[:, None]
        modalities.append(Modality(name, weights, (bias - mean @ weights).astype(np.float32)))
    return FusedNetwork(Network(*parameters[:_OF_TEXT]), tuple(modalities))


def _inputs(media: MediaRows) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
    found = {"frames": (media.frames, media.has_frames), "sound": (media.sound, media.has_sound)}
    return {name: (values, there) for name, (values, there) in found.items() if values.shape[1]}


def _scale(values: Floats, there: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return mean and spread of the values that are there; the weights take both in when all is learned."""
    if not there.any():
        return np.zeros(values.shape[1], np.float32), np.ones(values.shape[1], np.float32)
    return values[there].mean(axis=0), values[there].std(axis=0) + np.float32(_SPREAD)


def _dropped(media: MediaRows, names: list[str], rng: np.random.Generator) -> tuple[dict[str, Floats], Floats]:
    """Return by modality which videos show it now [n], and which texts are read [n]; something always is."""
    present = {
        name: (there & (rng.random(len(there)) > MEDIA_DROPOUT)).astype(np.float32)
        for name, (_, there) in _inputs(media).items()
    }
    anything = np.max([present[name] for name in names], axis=0) > 0
    reads = ~(anything & (rng.random(len(anything)) < TEXT_DROPOUT))
    return present, reads.astype(np.float32)


def _gradients(
    parameters: list[Floats],
    x: Counts,
    values: list[Floats],
    present: list[Floats],
    targets: Targets,
    rng: np.random.Generator,
) -> list[Floats]:
    text, rest = parameters[:_OF_TEXT], parameters[_OF_TEXT:]
    beside = np.zeros((x.shape[0], HIDDEN), np.float32)
    for k, (value, there) in enumerate(zip(values, present, strict=True)):
        beside += value @ rest[2 * k] + there[:, None] * rest[2 * k + 1]
    slopes, d_pre = gradients(text, x, targets, rng, beside)
    for value, there in zip(values, present, strict=True):
        slopes += [value.T @ d_pre, there @ d_pre]
    return slopes


@dataclass(frozen=True)
class Fused:
    """A fitted student, see `models.distil.Fitted`: `logits` [2, n, A] of every row come from fits without it."""

    nano: Nano
    modalities: tuple[Modality, ...]
    media: MediaRows

    @property
    def tokenizer(self) -> Tokenizer:
        """Its words."""
        return self.nano.tokenizer

    @property
    def heldout(self) -> NDArray[np.intp]:
        """All rows."""
        return self.nano.heldout

    @property
    def logits(self) -> Floats:
        """Of words and of the fused network."""
        return self.nano.logits

    @property
    def trained(self) -> int:
        """Rows learned."""
        return self.nano.trained

    @property
    def learned(self) -> Prints:
        """All texts."""
        return self.nano.learned

    space: None = None
    max_tokens: int = MAX_TOKENS
    dim: int = HIDDEN
    opset: int = OPSET

    def graph(self, platt: Floats) -> bytes:
        """Return the model with its calibration multiplied in, and the other modalities grafted on."""
        return fuse(self.nano.graph(platt), self.modalities)


def fit_fused(rows: Rows, seed: int, advance: Advance) -> Fused:
    """Fit as `models.nano.fit_nano` does, on rows with media.

    Raises:
        ConfigurationError: the rows have none.

    """
    media = rows.media
    if media is None:
        raise ConfigurationError("the rows have no media; give --media FILE")
    nano, network = fit_in_folds(
        rows,
        seed,
        advance,
        fit=lambda x, targets, index: fit_fused_network(x, media[index], targets, seed, advance),
        logits=lambda network, x, index: network.logits(x, media[index]),
        text=lambda network: network.text,
        units=lambda network, x: network.units(x, media),
    )
    return Fused(nano, network.modalities, media)
