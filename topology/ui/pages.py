"""Templates to HTML: what the page's words and numbers look like."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from models.charts import Axis, Points, Series, chart
from topology.ui.timeline import KEPT_S

_SIZE = (460, 190)
_FEW = 30


def environment() -> Environment:
    """Return the templates, with the filters that they use; every value is escaped."""
    made = Environment(
        loader=PackageLoader("monitoring", "ui"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(time=time, number=number, duration=duration, percent=percent, share=share)
    return made


def time(epoch_ms: int | None) -> str:
    """Return a time as text, UTC to the second."""
    if epoch_ms is None:
        return "–"
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def number(value: float | None) -> str:
    """Return a count or rate with three digits that matter, thousands apart."""
    if value is None:
        return "–"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def duration(value_ms: float | None) -> str:
    """Return milliseconds as text, in the unit that fits."""
    if value_ms is None:
        return "–"
    return f"{value_ms:.0f} ms" if value_ms < 1_000 else f"{value_ms / 1000:.3g} s"


def percent(value: float | None) -> str:
    """Return a share as per cent."""
    return "–" if value is None else f"{value:.0%}"


def share(value: float | None) -> str:
    """Return a figure between 0 and 1 with three digits."""
    return "–" if value is None else f"{value:.3f}"


def over_time(title: str, lines: Sequence[Points]) -> Markup:
    """Return a chart of the last minutes; the scale ends at a round number above the highest point.

    The title names the unit.
    """
    top = max((value for points in lines for _, value in points), default=0.0)
    # A line through few points is easily overlooked, and one point has none.
    series = [Series(points, "both" if len(points) < _FEW else "line", n) for n, points in enumerate(lines)]
    return Markup(  # `chart` escapes its texts, and the rest are numbers
        chart(title, Axis("seconds ago", -KEPT_S, 0), Axis("", 0, _round_up(top)), series, size=_SIZE)
    )


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    unit = 10 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 4, 6, 8, 10) if step * unit >= value)
