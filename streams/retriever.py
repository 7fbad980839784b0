"""Restricted retrieval as lists ask for it, whatever answers: the snapshot in this process, or a table."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.attributes import Catalogue

Float32s = npt.NDArray[np.float32]
Int32s = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


def no_rows() -> Int32s:
    """Return an array of none."""
    return np.empty(0, np.int32)


def distinct(rows: Int32s) -> Int32s:
    """Return rows in order, each once; numpy's `unique` takes four times as long for a few hundred."""
    rows = np.sort(rows)
    return rows[np.append(True, rows[1:] != rows[:-1])[: len(rows)]]


@dataclass(frozen=True)
class Lane:
    """Up to `k` videos that may be served: the newest, or the best with `attribute`, certified, or the best of all.

    With `among`, the first of these rows.
    """

    k: int
    attribute: str | None = None
    newest: bool = False
    among: Int32s | None = None


@dataclass(frozen=True)
class Request:
    """The lanes of one list, and the rows of videos that its user has seen (some may be there twice).

    A video's score is its cosine to `vector` (L2-normalised; None: 0) and, in the lane of an attribute,
    `probability_weight` times the logarithm of the student's p. `languages` None: all of them, and unknown ones.
    `user` names who asks, again and again with a vector that moves little: it changes what a search costs, and not what
    it finds.
    """

    vector: Float32s | None
    lanes: Sequence[Lane]
    seen: Int32s = field(default_factory=no_rows)
    languages: tuple[str, ...] | None = None
    probability_weight: float = 0.0
    user: str = ""


@dataclass(frozen=True, eq=False)
class Found:
    """Rows, lane after lane, each best first; and how many videos each reason kept out of all lanes.

    `bounds` [lanes + 1] say where a lane begins. The reasons are in this order, each video for the first that holds:
    unavailable (taken down, or without a vector), policy (some policy attribute is present or open), too_old, language,
    seen.
    """

    rows: Int32s
    bounds: npt.NDArray[np.int64]
    removed: dict[str, int]

    @property
    def lanes(self) -> tuple[list[int], ...]:
        """What each lane found."""
        return tuple(self.rows[start:end].tolist() for start, end in pairwise(self.bounds.tolist()))


def found_in(lanes: Sequence[Int32s], removed: dict[str, int]) -> Found:
    """Return what was found in lanes."""
    bounds = np.zeros(len(lanes) + 1, np.int64)
    np.cumsum([len(rows) for rows in lanes], out=bounds[1:])
    return Found(np.concatenate(lanes) if lanes else no_rows(), bounds, removed)


@dataclass(frozen=True)
class Described:
    """What is known of n rows, by position: vectors (L2-normalised) [n, dim], and per attribute [n, attributes].

    `present` and `open` are labels, `certified` those present that the catalogue's targets are proven for, under the
    guarantee of their annotation, `log_p` the logarithm of the student's p. `creators` are negative where unknown.
    """

    vectors: Float32s
    present: Bools
    open: Bools
    certified: Bools
    log_p: Float32s
    creators: Int32s


class Retriever(Protocol):
    """Answers requests. Several at once cost less than one by one and are answered as if one by one."""

    @property
    def catalogue(self) -> Catalogue:
        """The attributes that a lane can name."""
        ...

    @property
    def dim(self) -> int:
        """The dimension of a request's vector."""
        ...

    def search(self, requests: Sequence[Request], oldest_ms: int) -> Iterator[tuple[int, Found]]:
        """Yield the number of each request and what is found for it, as it is found; those of one user in order.

        Videos that were uploaded before `oldest_ms` are left out. Nothing may change until all is found.
        """
        ...

    def video_ids(self, rows: Sequence[int]) -> list[str]:
        """Return the videos of rows that were found."""
        ...

    def find(self, video_ids: Collection[str]) -> Int32s:
        """Return the row of each video, -1 where it has none."""
        ...

    def describe(self, rows: Int32s) -> Described:
        """Return what is known of rows."""
        ...

    def uploaded_since(self, ms: int) -> Int32s:
        """Return the rows that were uploaded then or later, oldest first; whether they may be served or not."""
        ...
