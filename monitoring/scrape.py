"""Reading a worker's metrics endpoint: sums of counters, quantiles of histograms."""

import math
import urllib.request
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families


class Sample(NamedTuple):
    """One line of an exposition."""

    name: str
    labels: Mapping[str, str]
    value: float


def scrape(port: int, timeout_s: float = 5.0) -> list[Sample]:
    """Return the samples of the endpoint at a loopback port; OSError if it does not answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout_s) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return [Sample(s.name, s.labels, s.value) for family in families for s in family.samples]


def total(samples: Sequence[Sample], name: str, **labels: str) -> float:
    """Sum the samples of a name that have these labels; 0 if there is none."""
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def quantile(samples: Sequence[Sample], histogram: str, q: float) -> float | None:
    """Return the q-quantile (0..1) of a histogram in its unit, interpolated within a bucket as Prometheus does.

    None when nothing was observed; the largest finite bound when it lies beyond.
    """
    buckets = sorted((float(s.labels["le"]), s.value) for s in samples if s.name == f"{histogram}_bucket")
    if not buckets or buckets[-1][1] == 0:
        return None
    rank, lower, below = q * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below) if count > below else bound
        lower, below = bound, count
    return lower
