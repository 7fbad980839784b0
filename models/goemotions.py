"""Reads GoEmotions (Demszky et al. 2020) as published: text, label ids, comment id, separated by tabs."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError

LABELS = tuple(
    (
        "admiration amusement anger annoyance approval caring confusion curiosity desire "
        "disappointment disapproval disgust embarrassment excitement fear gratitude grief joy love "
        "nervousness optimism pride realization relief remorse sadness surprise neutral "
    ).split()
)
"""In the order of the published label ids."""


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and their labels, bool [n, A] in catalogue order."""

    texts: Sequence[str]
    labels: NDArray[np.bool_]


def read_goemotions(path: Path, names: Sequence[str], catalogue: Catalogue) -> LabelledTexts:
    """Read a (gzipped) split; an attribute is present if any label of its `labels.goemotions` is.

    The masks [NAME] and [RELIGION] become words, as no upload contains them.

    Raises:
        ConfigurationError: an attribute names no label or an unknown one, or a row is malformed.

    """
    columns = _columns(names, catalogue)
    texts: list[str] = []
    rows: list[NDArray[np.bool_]] = []
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                text, labels, _ = line.rstrip("\n").split("\t")
                ids = np.array(labels.split(","), np.uint16)
                rows.append(np.any(columns[ids], axis=0))
            except (ValueError, IndexError, OverflowError) as error:
                raise ConfigurationError(
                    f"{path}:{number}: expected text, label ids below {len(names)} and comment id, separated by tabs,"
                    f" got {line[:80]!r}"
                ) from error
            texts.append(text.replace("[NAME]", "someone").replace("[RELIGION]", "religion"))
    if not texts:
        raise ConfigurationError(f"{path} holds no rows; expected a GoEmotions split")
    return LabelledTexts(texts, np.stack(rows))


def _columns(names: Sequence[str], catalogue: Catalogue) -> NDArray[np.bool_]:
    """Return bool [labels, A]: which label teaches which attribute."""
    columns = np.zeros((len(names), len(catalogue.ids)), np.bool_)
    for a, attribute in enumerate(catalogue.attributes):
        labels = attribute.labels.get("goemotions", ())
        unknown = set(labels) - set(names)
        if not labels or unknown:
            raise ConfigurationError(
                f"attribute {attribute.id!r}: labels.goemotions = {list(labels)}; name one or more of"
                f" {', '.join(names)}"
            )
        columns[[names.index(label) for label in labels], a] = True
    return columns
