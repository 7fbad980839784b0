"""The cascade's bands over a whole run, written straight to the wire: what `decide` says, without an object a score."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.cascade import BandLimits
from schemas.annotation import AttributeScore, Band

_BANDS: tuple[tuple[Band, bool | None], ...] = (("reject", False), ("uncertain", None), ("accept", True))
_REJECT, _UNCERTAIN, _ACCEPT = range(3)
_PATTERNS = 10_000
"""Combinations of bands whose JSON is kept; most videos have one of a few hundred."""


class Verdict(NamedTuple):
    """One video: the JSON of `Annotation.attributes`, the attributes to ask the LLM about, and their JSON."""

    attributes: bytes
    uncertain: tuple[str, ...]
    uncertain_json: bytes


class _Pattern(NamedTuple):
    template: bytes
    uncertain: tuple[str, ...]
    uncertain_json: bytes


class Verdicts:
    """Decides runs of videos for one student: its bands and certificates."""

    def __init__(self, bands: Mapping[str, BandLimits], ids: Sequence[str], certified: Collection[str]) -> None:
        """`ids` are the attributes in the order of the probabilities."""
        self._ids = tuple(ids)
        self._lo = np.array([bands[name].lo for name in ids])
        self._hi = np.array([bands[name].hi for name in ids])
        self._certified = frozenset(certified)
        self._patterns: dict[bytes, _Pattern] = {}

    def of(self, probability: NDArray[np.float32]) -> list[Verdict]:
        """Decide `probability` [n, A]; p, held against the bands first, is written with six significant digits."""
        bands = np.where(probability >= self._hi, _ACCEPT, np.where(probability < self._lo, _REJECT, _UNCERTAIN))
        codes, width = bands.astype(np.uint8).tobytes(), len(self._ids)
        found: list[Verdict] = []
        for row, p in enumerate(probability.tolist()):
            code = codes[row * width : (row + 1) * width]
            pattern = self._patterns.get(code) or self._pattern(code)
            found.append(Verdict(pattern.template % tuple(p), pattern.uncertain, pattern.uncertain_json))
        return found

    def count(self, probability: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return how many of `probability` [n, A] are in each band, [A, 3]: rejected, uncertain, accepted."""
        every = np.ones(len(probability), np.float32)  # a product counts in a quarter of the time that a sum takes
        counts = np.empty((len(self._ids), len(_BANDS)), np.int64)
        counts[:, _REJECT] = every @ (probability < self._lo)
        counts[:, _ACCEPT] = every @ (probability >= self._hi)
        counts[:, _UNCERTAIN] = len(probability) - counts[:, _REJECT] - counts[:, _ACCEPT]
        return counts

    def _pattern(self, code: bytes) -> _Pattern:
        if len(self._patterns) >= _PATTERNS:
            self._patterns.clear()
        entries = [self._entry(name, *_BANDS[band]) for name, band in zip(self._ids, code, strict=True)]
        uncertain = tuple(name for name, band in zip(self._ids, code, strict=True) if band == _UNCERTAIN)
        pattern = _Pattern(b"{" + b",".join(entries) + b"}", uncertain, msgspec.json.encode(uncertain))
        self._patterns[code] = pattern
        return pattern

    def _entry(self, name: str, band: Band, label: bool | None) -> bytes:
        score = AttributeScore(p=0.5, band=band, label=label, source="student", certified=name in self._certified)
        whole = msgspec.json.encode({name: score})[1:-1].replace(b"%", b"%%")
        before, number, after = whole.rpartition(b'"p":0.5,')
        if not number:
            raise AssertionError(f"{whole!r} has no p")
        return before + b'"p":%.6g,' + after
