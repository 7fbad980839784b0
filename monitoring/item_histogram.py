"""A histogram that takes the values of many items at once: prometheus_client's takes 2 µs for each."""

from collections.abc import Iterable, Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class _Series(NamedTuple):
    counts: NDArray[np.int64]  # per bucket, the last is +Inf
    sum: NDArray[np.float64]  # of one element


class ItemHistogram(Collector):
    """Counts values in buckets; a call costs some 5 µs, and some nanoseconds per value. For any thread."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """`buckets` are upper bounds, ascending, without infinity."""
        self.name = name
        self.documentation = documentation
        self.labelnames = tuple(labelnames)
        self._bounds = np.array(buckets, np.float64)
        self._le = [*map(floatToGoString, buckets), "+Inf"]
        self._series: dict[tuple[str, ...], _Series] = {}
        self._lock = Lock()
        if not self.labelnames:
            self._series[()] = self._empty()
        registry.register(self)

    def observe_all(self, values: ArrayLike, *labels: str) -> None:
        """Count values of one series, none of them NaN.

        Raises:
            ValueError: there are not as many labels as names.

        """
        if len(labels) != len(self.labelnames):
            raise ValueError(f"{self.name} has the labels {self.labelnames}, given {labels}")
        numbers = np.asarray(values, np.float64)
        counts = np.bincount(self._bounds.searchsorted(numbers), minlength=len(self._le))
        with self._lock:
            series = self._series.get(labels)
            if series is None:
                series = self._series[labels] = self._empty()
            np.add(series.counts, counts, series.counts)
            series.sum[0] += numbers.sum()

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Say the name, without any series."""
        return [HistogramMetricFamily(self.name, self.documentation, labels=self.labelnames)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return every series."""
        [family] = self.describe()
        with self._lock:
            seen = [
                (labels, series.counts.cumsum().tolist(), float(series.sum[0]))
                for labels, series in self._series.items()
            ]
        for labels, counts, total in seen:
            family.add_metric(labels, [*zip(self._le, counts, strict=True)], total)
        return [family]

    def _empty(self) -> _Series:
        return _Series(np.zeros(len(self._le), np.int64), np.zeros(1))
