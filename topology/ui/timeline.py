"""Counts and latencies by the second, of the last few minutes."""

from collections import defaultdict
from collections.abc import Iterable

from models.charts import Points

KEPT_S = 180
_SAMPLES_A_SECOND = 200


class Counts:
    """How many things happened in each of the last `KEPT_S` seconds, by their own times."""

    def __init__(self) -> None:
        self._by_second: defaultdict[int, int] = defaultdict(int)
        self.total = 0

    def add(self, time_ms: int) -> None:
        """Count one; what is older than the window, or in the future, is in the total alone."""
        self.total += 1
        self._by_second[time_ms // 1000] += 1

    def rate(self, now_ms: int, seconds: int = 10) -> float:
        """Return how many a second there were in the last whole `seconds`."""
        now = now_ms // 1000
        return sum(self._by_second.get(now - ago, 0) for ago in range(1, seconds + 1)) / seconds

    def points(self, now_ms: int) -> Points:
        """Return (seconds from now, count), oldest first; the second that is under way is left out."""
        now = now_ms // 1000
        self._forget(now)
        return [(-float(ago), float(self._by_second.get(now - ago, 0))) for ago in range(KEPT_S, 0, -1)]

    def _forget(self, now: int) -> None:
        for second in [second for second in self._by_second if second < now - KEPT_S]:
            del self._by_second[second]


class Latencies:
    """Milliseconds that things took, in each of the last `KEPT_S` seconds; at most 200 of a second are kept."""

    def __init__(self) -> None:
        self._by_second: defaultdict[int, list[float]] = defaultdict(list)

    def add(self, time_ms: int, took_ms: float) -> None:
        """Note what took `took_ms` and ended at `time_ms`."""
        samples = self._by_second[time_ms // 1000]
        if len(samples) < _SAMPLES_A_SECOND:
            samples.append(max(took_ms, 0.0))

    def quantile(self, now_ms: int, q: float, seconds: int = 60) -> float | None:
        """Return a quantile over the last `seconds` in ms; None if nothing happened."""
        now = now_ms // 1000
        return _quantile((one for ago in range(seconds) for one in self._by_second.get(now - ago, ())), q)

    def points(self, now_ms: int, q: float) -> Points:
        """Return (seconds from now, quantile in ms) of the seconds in which something ended, oldest first."""
        now = now_ms // 1000
        for second in [second for second in self._by_second if second < now - KEPT_S]:
            del self._by_second[second]
        found = ((-float(ago), _quantile(self._by_second.get(now - ago, ()), q)) for ago in range(KEPT_S, 0, -1))
        return [(at, value) for at, value in found if value is not None]


def _quantile(values: Iterable[float], q: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else None
