"""A catalogue of random videos, in a snapshot and in plain arrays to look the answers up in."""

import msgspec
import numpy as np

from schemas.table import to_table
from streams.snapshot import Snapshot
from tests.fakes.videos import CATALOGUE, NOW_MS, annotation

WEIGHT = 0.1
ATTRIBUTES = ("calm", "eerie", "funny")


class Videos:
    """Random vectors, labels, times and languages of `count` videos."""

    def __init__(self, count: int, dim: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.vectors = rng.normal(size=(count, dim)).astype(np.float16).astype(np.float32)
        self.vectors /= np.linalg.norm(self.vectors, axis=1, keepdims=True)
        self.labels = rng.random((count, 3)) < (0.02, 0.2, 0.6)
        self.p = rng.random(count).astype(np.float16).astype(np.float32)
        self.hostile = rng.random(count) < 0.1
        self.times = NOW_MS - rng.integers(1, 10_000, count)
        self.portuguese = rng.random(count) < 0.3
        self.snapshot = Snapshot(CATALOGUE, dim)
        annotations = [
            msgspec.structs.replace(
                annotation(
                    f"v{i}",
                    {"hostile": bool(self.hostile[i])}
                    | {a: bool(self.labels[i, at]) for at, a in enumerate(ATTRIBUTES)},
                    p=float(self.p[i]),
                    vector=self.vectors[i],
                    uploaded_at_ms=int(self.times[i]),
                ),
                language="pt" if self.portuguese[i] else "en",
            )
            for i in range(count)
        ]
        self.snapshot.load(to_table(annotations, CATALOGUE, dim, NOW_MS).to_batches(max_chunksize=700))

    def scores(self, vector: np.ndarray, allowed: np.ndarray, attribute: str | None = None) -> np.ndarray:
        """Per row, -inf where it must not be found."""
        scores = self.vectors @ vector
        if attribute is not None:
            scores = scores + WEIGHT * np.log(np.maximum(self.p, 1e-3))
            allowed = allowed & self.labels[:, ATTRIBUTES.index(attribute)]
        return np.where(allowed, scores, -np.inf)

    def direction(self, seed: int) -> np.ndarray:
        vector = np.random.default_rng(seed).normal(size=self.snapshot.dim)
        return (vector / np.linalg.norm(vector)).astype(np.float32)
