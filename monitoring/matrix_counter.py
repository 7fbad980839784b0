"""A counter whose series form a matrix and are counted all at once: one by one, they take 0.6 µs each."""

from collections.abc import Iterable, Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector


class MatrixCounter(Collector):
    """Counts in rows and columns, the values of its two labels. For any thread."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: tuple[str, str],
        *,
        columns: Sequence[str],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """`labelnames` are those of rows and columns."""
        self.name = name
        self.documentation = documentation
        self.labelnames = labelnames
        self._columns = tuple(columns)
        self._counts: dict[tuple[str, ...], NDArray[np.int64]] = {}
        self._lock = Lock()
        registry.register(self)

    def add(self, rows: tuple[str, ...], counts: NDArray[np.int64]) -> None:
        """Add `counts` [rows, columns]."""
        with self._lock:
            known = self._counts.get(rows)
            if known is None:
                known = self._counts[rows] = np.zeros((len(rows), len(self._columns)), np.int64)
            np.add(known, counts, known)

    def describe(self) -> Iterable[CounterMetricFamily]:
        """Say the name, without any series."""
        return [CounterMetricFamily(self.name, self.documentation, labels=self.labelnames)]

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Return every series; rows that were counted among different others are one."""
        [family] = self.describe()
        totals: dict[tuple[str, str], int] = {}
        with self._lock:
            for rows, counts in self._counts.items():
                for row, numbers in zip(rows, counts.tolist(), strict=True):
                    for column, number in zip(self._columns, numbers, strict=True):
                        totals[row, column] = totals.get((row, column), 0) + number
        for labels, total in totals.items():
            family.add_metric(labels, total)
        return [family]
