"""What a dashboard is made of, free of Grafana: rows of panels, each with its queries."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Query:
    """PromQL, and the name of each of its series: `{{label}}` stands for a label's value."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A picture of some queries.

    `unit` is one of Grafana's. `width` is of 24 columns. `steps` are values from which a number turns orange, then red;
    `least` and `most` are the ends of the axis where they are known.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: Literal["lines", "stack", "number"] = "lines"
    width: int = 8
    height: int = 7
    steps: Sequence[float] = ()
    least: float | None = 0.0
    most: float | None = None


@dataclass(frozen=True)
class Row:
    """Panels under a title, from left to right; what does not fit in 24 columns begins a new line."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of the board: the values of a metric's label, all of them at first."""

    name: str
    label: str
    metric: str


@dataclass(frozen=True)
class Board:
    """A dashboard; `uid` is its address and the name of its file."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = field(default=())


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Return the sum of a counter's rates, one a combination of the labels `by`."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{f'{{{where}}}' if where else ''}{RATE}))"


def ratio(part: str, *of: str) -> str:
    """Return the first by all others."""
    return " / ".join((part, *of))


def share(part: str, whole: str) -> str:
    """Return the first by the second; 0, and not nothing, of what has no part yet."""
    return ratio(f"({part} or 0 * {whole})", whole)


def quantile(q: float, histogram: str, by: str = "", where: str = "") -> str:
    """Return a quantile of a histogram, one a combination of the labels `by`."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', labels, where)})"


def half_and_most(histogram: str, where: str = "") -> list[Query]:
    """Return the median and the 99th percentile of a histogram in seconds."""
    return [Query(quantile(0.5, histogram, where=where), "p50"), Query(quantile(0.99, histogram, where=where), "p99")]
