"""Duration-debiased satisfaction: where a watch stands among the watches of videos about as long.

D2Q, "Deconfounding Duration Bias in Watch-time Prediction for Video Recommendation", arXiv 2206.06003.
"""

from bisect import bisect_right
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from models.satisfaction import told
from schemas.errors import ConfigurationError
from schemas.events import WatchEvent
from schemas.fields import DurationMs

LEVELS = 101
"""Quantiles of a group: its minimum, every hundredth, its maximum."""


class DurationGroup(Struct, frozen=True, kw_only=True):
    """Videos of `from_ms` up to where the next group begins, and the quantiles of how long they were played."""

    from_ms: DurationMs
    watches: Annotated[int, Meta(ge=1)]
    watch_ms: Annotated[tuple[DurationMs, ...], Meta(min_length=LEVELS, max_length=LEVELS)]


class DurationQuantiles(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table of `vibestream satisfaction fit`: frozen, so that what it says of a watch never changes."""

    schema_version: Literal[1]
    groups: Annotated[tuple[DurationGroup, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        """Refuse groups or quantiles that do not ascend."""
        starts = [group.from_ms for group in self.groups]
        if any(a >= b for a, b in zip(starts, starts[1:], strict=False)):
            raise ValueError(f"groups begin at {starts} ms, which does not ascend")
        for group in self.groups:
            if list(group.watch_ms) != sorted(group.watch_ms):
                raise ValueError(f"the quantiles of the group from {group.from_ms} ms do not ascend")


class DurationPercentile:
    """The percentile of the time played among the watches of the video's duration group; what `told` says goes first.

    A video whose duration is unknown, 0, or below all groups counts to the first group.
    """

    def __init__(self, table: DurationQuantiles) -> None:
        self.labeler = f"d2q/{sha256(msgspec.json.encode(table)).hexdigest()[:12]}"
        self._starts = [group.from_ms for group in table.groups]
        self._quantiles = [group.watch_ms for group in table.groups]

    def __call__(self, event: WatchEvent, /) -> float:
        """Return how satisfied the watch was."""
        known = told(event)
        if known is not None:
            return known
        group = max(0, bisect_right(self._starts, event.duration_ms) - 1)
        return percentile(self._quantiles[group], event.watch_ms)


def percentile(quantiles: tuple[int, ...], value: int) -> float:
    """Return the share of values that are at most `value`, in [0, 1], interpolated between equidistant quantiles."""
    above = bisect_right(quantiles, value)
    if above == 0:
        return 0.0
    if above == len(quantiles):
        return 1.0
    low, high = quantiles[above - 1], quantiles[above]
    return (above - 1 + (value - low) / (high - low)) / (len(quantiles) - 1)


def load_duration_percentile(path: Path) -> DurationPercentile:
    """Return the labeler of a table.

    Raises:
        ConfigurationError: the file can't be read or is no such table.

    """
    try:
        return DurationPercentile(msgspec.json.decode(path.read_bytes(), type=DurationQuantiles))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"labeler {path}: {error}; make one with `vibestream satisfaction fit`, or leave it empty"
        ) from error
