"""Texts whose words give their labels away, in the format of GoEmotions."""

import gzip
from pathlib import Path

import numpy as np

from models.goemotions import LABELS
from schemas.attributes import Catalogue, load_catalogue

_SHIPPED = load_catalogue()
CATALOGUE = Catalogue(tuple(_SHIPPED[name] for name in ("funny", "heartwarming", "eerie", "deadpan")))
WORDS = {
    "amusement": ["lol", "hilarious", "joke"],
    "love": ["love", "hug", "darling"],
    "caring": ["care", "support"],
    "fear": ["scary", "ghost", "terrified"],
    "neutral": ["bus", "table", "report"],
}
_FILLER = ["the", "a", "today", "we", "it", "was", "and", "this"]


def write_split(path: Path, rows: int, seed: int) -> Path:
    """Write a gzipped split; each text has one telling word among fillers."""
    rng = np.random.default_rng(seed)
    lines: list[str] = []
    for i in range(rows):
        label = str(rng.choice(list(WORDS)))
        words = [*rng.choice(_FILLER, 5), str(rng.choice(WORDS[label])), "[NAME]"]
        lines.append(f"{' '.join(rng.permutation(words))}\t{LABELS.index(label)}\tid{i}\n")
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(lines)
    return path
