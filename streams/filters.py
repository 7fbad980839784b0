"""What keeps a video from being a candidate: each filter says what it kept, what it removed, and why."""

from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.snapshot import Snapshot

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Filtered:
    """Rows of the snapshot, kept in order, and the removed ones with the filter's reason."""

    kept: Rows
    removed: Rows
    reason: str


Filter = Callable[[Snapshot, Rows], Filtered]


def unavailable(snapshot: Snapshot, rows: Rows) -> Filtered:
    """Remove taken-down videos and those without a vector."""
    return _split(rows, snapshot.available[rows], "unavailable")


def policy(snapshot: Snapshot, rows: Rows) -> Filtered:
    """Remove videos of which some policy attribute is present or open: only decided absence is let through."""
    policies = [snapshot.attribute_index[attribute] for attribute in snapshot.catalogue.policy_ids]
    keep = np.ones(len(rows), np.bool_)
    for labels in snapshot.labels[policies]:
        keep &= labels[rows] == 0
    return _split(rows, keep, "policy")


def too_old(oldest_ms: int) -> Filter:
    """Remove videos that were uploaded before `oldest_ms`."""

    def apply(snapshot: Snapshot, rows: Rows) -> Filtered:
        return _split(rows, snapshot.uploaded_at_ms[rows] >= oldest_ms, "too_old")

    return apply


def seen(video_ids: Collection[str]) -> Filter:
    """Remove the videos that the user has watched."""

    def apply(snapshot: Snapshot, rows: Rows) -> Filtered:
        unseen = np.ones(len(snapshot), np.bool_)
        unseen[[row for video_id in video_ids if (row := snapshot.row(video_id)) is not None]] = False
        return _split(rows, unseen[rows], "seen")

    return apply


def apply_filters(snapshot: Snapshot, rows: Rows, filters: Sequence[Filter]) -> tuple[Rows, Counter[str]]:
    """Return the rows that all filters keep, and the number that each removed of what the ones before it kept."""
    removed: Counter[str] = Counter()
    for apply in filters:
        filtered = apply(snapshot, rows)
        rows = filtered.kept
        removed[filtered.reason] += len(filtered.removed)
    return rows, removed


def _split(rows: Rows, keep: npt.NDArray[np.bool_], reason: str) -> Filtered:
    return Filtered(rows[keep], rows[~keep], reason)


class CreatorCap:
    """At most `limit` videos of one creator among any `window` places in a row, as a list is filled.

    It is asked while lanes are blended and not afterwards: a refused video leaves its place to the next of its own
    lane, and may itself come later.
    """

    reason = "creator_cap"

    def __init__(self, creators: npt.NDArray[np.int32], limit: int, window: int) -> None:
        """`creators` holds a number per row, negative where unknown: those are not capped."""
        self._creators = creators
        self._limit = limit
        self._recent: deque[int] = deque(maxlen=window - 1)
        self._refused: set[int] = set()

    def admits(self, row: int) -> bool:
        """Whether the video may take the next place."""
        creator = int(self._creators[row])
        admitted = creator < 0 or self._recent.count(creator) < self._limit
        if not admitted:
            self._refused.add(row)
        return admitted

    def place(self, row: int) -> None:
        """Record that the video took the next place."""
        self._recent.append(int(self._creators[row]))
        self._refused.discard(row)

    @property
    def removed(self) -> int:
        """Videos that were refused and never placed."""
        return len(self._refused)
