"""Small charts as SVG text, to be put into a page; nothing is fetched when it is opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np

Points = Sequence[tuple[float, float]]

COLOURS = ("#1f5fa8", "#c2570c")
"""The system that is evaluated, and the one it is compared with: apart for colour-blind eyes too."""

_LEFT, _BOTTOM, _TOP, _RIGHT = 44, 34, 10, 12


@dataclass(frozen=True)
class Series:
    """Points to join by a line, to mark, or marked and named; `colour` is an index into `COLOURS`."""

    points: Points
    draw: Literal["line", "marks", "both"] = "line"
    colour: int = 0
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Axis:
    """An axis from `lo` to `hi` with a name."""

    name: str
    lo: float = 0.0
    hi: float = 1.0


def chart(
    title: str,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    *,
    size: tuple[int, int] = (260, 210),
    diagonal: bool = False,
) -> str:
    """Return one chart; the title is also what screen readers say."""
    width, height = size
    right, bottom = width - _RIGHT, height - _BOTTOM

    def at(point: tuple[float, float]) -> tuple[float, float]:
        along = (point[0] - x.lo) / ((x.hi - x.lo) or 1)
        up = (point[1] - y.lo) / ((y.hi - y.lo) or 1)
        return round(_LEFT + along * (right - _LEFT), 1), round(bottom - up * (bottom - _TOP), 1)

    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>",
    ]
    for value in np.linspace(0, 1, 5):
        across, up = x.lo + value * (x.hi - x.lo), y.lo + value * (y.hi - y.lo)
        (px, _), (_, py) = at((across, y.lo)), at((x.lo, up))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{py}" y2="{py}"/>')
        parts.append(f'<text class="tick" x="{px}" y="{bottom + 14}" text-anchor="middle">{_tick(across)}</text>')
        parts.append(f'<text class="tick" x="{_LEFT - 5}" y="{py + 3}" text-anchor="end">{_tick(up)}</text>')
    parts.append(
        f'<text class="axis" x="{(_LEFT + right) / 2}" y="{height - 4}" text-anchor="middle">{escape(x.name)}</text>'
    )
    turned = f"translate(11 {(_TOP + bottom) / 2}) rotate(-90)"
    parts.append(f'<text class="axis" transform="{turned}" text-anchor="middle">{escape(y.name)}</text>')
    if diagonal:
        (x1, y1), (x2, y2) = at((x.lo, y.lo)), at((x.hi, y.hi))
        parts.append(f'<line class="diagonal" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    for one in series:
        parts += _drawn(one, [at(point) for point in one.points], right)
    return "".join([*parts, "</svg>"])


def _drawn(series: Series, placed: Points, right: float) -> list[str]:
    colour = COLOURS[series.colour]
    parts: list[str] = []
    if series.draw != "marks" and len(placed) > 1:
        path = " ".join(f"{px},{py}" for px, py in placed)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{path}"/>')
    if series.draw != "line":
        parts += [f'<circle cx="{px}" cy="{py}" r="3.2" fill="{colour}"/>' for px, py in placed]
    for (px, py), name in zip(placed, series.names, strict=False):
        side = ("end", -6) if px > right / 2 else ("start", 6)
        parts.append(
            f'<text class="name" x="{px + side[1]}" y="{py - 6}" text-anchor="{side[0]}">{escape(name)}</text>'
        )
    return parts


def _tick(value: float) -> str:
    return f"{value:,.4g}"
