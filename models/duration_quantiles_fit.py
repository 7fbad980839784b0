"""Fits the table of duration groups in one pass over watches; needs the extra `train`.

One KLL sketch (Apache DataSketches) per hundredth of a duration holds how long such videos were played. Sketches merge,
so the groups of equal frequency are put together at the end, when it is known where they begin.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import datasketches

from models.duration_quantiles import LEVELS, DurationGroup, DurationQuantiles
from schemas.errors import ConfigurationError
from schemas.events import WatchEvent

GROUPS = 30
MIN_WATCHES = 3_000
"""A hundred a group: with fewer, its percentiles are noise."""
_STEP = math.log(1.01)
_K = 1_000  # of a sketch: a rank is wrong by less than 0.3 %


def _sketch() -> Any:
    untyped: Any = datasketches
    return untyped.kll_ints_sketch(_K)


@dataclass
class _Bin:
    """Watches of videos whose durations differ by less than a hundredth."""

    from_ms: int
    watches: int = 0
    played: Any = field(default_factory=_sketch)


class DurationQuantilesFit:
    """What is gathered of watches."""

    def __init__(self) -> None:
        self._bins: dict[int, _Bin] = {}

    @property
    def watches(self) -> int:
        """Watches taken: those of a known duration."""
        return sum(one.watches for one in self._bins.values())

    def add(self, event: WatchEvent) -> None:
        """Take a watch, unless its duration is unknown."""
        if event.duration_ms == 0:
            return
        one = self._bin(event.duration_ms)
        one.watches += 1
        one.played.update(event.watch_ms)

    def table(self) -> DurationQuantiles:
        """Return the table of at most `GROUPS` groups; fewer where very many videos are equally long.

        Raises:
            ConfigurationError: there were fewer than `MIN_WATCHES`.

        """
        total, before = self.watches, 0
        if total < MIN_WATCHES:
            raise ConfigurationError(f"{total} watches of a known duration; a table needs {MIN_WATCHES}")
        groups: dict[int, _Bin] = {}
        for one in sorted(self._bins.values(), key=lambda one: one.from_ms):
            number = int(GROUPS * (before + one.watches / 2) / total)
            before += one.watches
            if number not in groups:
                groups[number] = _Bin(one.from_ms)
            group = groups[number]
            group.watches += one.watches
            group.played.merge(one.played)
        return DurationQuantiles(schema_version=1, groups=tuple(_group(one) for one in groups.values()))

    def _bin(self, duration_ms: int) -> _Bin:
        number = int(math.log(duration_ms) / _STEP)
        if number not in self._bins:
            self._bins[number] = _Bin(duration_ms)
        one = self._bins[number]
        one.from_ms = min(one.from_ms, duration_ms)
        return one


def _group(one: _Bin) -> DurationGroup:
    levels = [level / (LEVELS - 1) for level in range(LEVELS)]
    return DurationGroup(
        from_ms=one.from_ms, watches=one.watches, watch_ms=tuple(int(ms) for ms in one.played.get_quantiles(levels))
    )
