"""A picture of a dashboard: our own light drawing of its JSON with live data, by Chromium. It is not Grafana's.

It shows the layout, the titles, the numbers and the curves, so that one sees whether a board makes sense. It goes to
build/screens, or to the folder in SCREENS.
"""

import html
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
_COLUMN, _LINE, _GAP = 58, 36, 6
_COLORS = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0", "#508642", "#cca300")
_STYLE = """
body { margin: 0; background: #111217; color: #ccccdc; font: 12px system-ui, sans-serif; position: relative }
h1 { font-size: 18px; margin: 0; padding: 10px 12px; height: 20px }
.row { position: absolute; font-weight: 600; font-size: 14px; padding: 8px 4px }
.panel { position: absolute; background: #181b1f; border: 1px solid #2c3235; border-radius: 2px; overflow: hidden;
  box-sizing: border-box; padding: 6px 8px }
.panel b { display: block; font-weight: 500; white-space: nowrap }
.number { font-size: 30px; color: #73bf69; text-align: center; padding-top: 22px }
.legend { position: absolute; bottom: 4px; left: 8px; right: 8px; max-height: 30px; overflow: hidden; font-size: 11px }
.legend i { display: inline-block; width: 12px; height: 3px; margin: 0 4px 3px 0 }
.legend span { margin-right: 10px; white-space: nowrap }
svg text { fill: #8e8e9a; font-size: 10px }
"""


def picture(
    title: str, shown: Sequence[tuple[Mapping[str, Any], Sequence[Sequence[Mapping[str, Any]]]]], name: str
) -> Path:
    """Draw the panels with the series of their queries; return the PNG."""
    folder = Path(os.environ.get("SCREENS", "build/screens")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel, _ in shown)
    body = "".join(_panel(panel, series) for panel, series in shown)
    page, png = folder / f"{name}.html", folder / f"{name}.png"
    page.write_text(f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style><h1>{html.escape(title)}</h1>{body}")
    subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--hide-scrollbars", f"--screenshot={png}", f"--window-size={24 * _COLUMN + 12},{lines * _LINE + 60}",
         page.as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    page.unlink()
    return png


def _panel(panel: Mapping[str, Any], queries: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    at = panel["gridPos"]
    width, height = at["w"] * _COLUMN - _GAP, at["h"] * _LINE - _GAP
    place = f"left:{at['x'] * _COLUMN + 6}px;top:{at['y'] * _LINE + 44}px;width:{width}px;height:{height}px"
    if panel["type"] == "row":
        return f'<div class=row style="{place}">{html.escape(panel["title"])}</div>'
    unit, curves = panel["fieldConfig"]["defaults"]["unit"], list[tuple[str, list[tuple[float, float]]]]()
    for target, series in zip(panel["targets"], queries, strict=True):
        for one in series:
            points = [(float(t), float(v)) for t, v in one["values"] if v not in ("NaN", "+Inf", "-Inf")]
            if points:
                curves.append((_legend(target["legendFormat"], one["metric"]), points))
    inside = _number(curves, unit) if panel["type"] == "stat" else _curves(panel, curves, unit, width, height)
    return f'<div class=panel style="{place}"><b>{html.escape(panel["title"])}</b>{inside}</div>'


def _number(curves: Sequence[tuple[str, list[tuple[float, float]]]], unit: str) -> str:
    return f"<div class=number>{_value(curves[0][1][-1][1], unit)}</div>"


def _curves(
    panel: Mapping[str, Any], curves: list[tuple[str, list[tuple[float, float]]]], unit: str, width: int, height: int
) -> str:
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    if stacked:
        below: dict[float, float] = {}
        for at, (name, points) in enumerate(curves):
            below |= {t: below.get(t, 0.0) + v for t, v in points}
            curves[at] = name, [(t, below[t]) for t, _ in points]
    times = [t for _, points in curves for t, _ in points]
    values = [v for _, points in curves for _, v in points]
    left, right, top, bottom = 52, width - 22, 10, height - 74
    first, last = min(times), max(max(times), min(times) + 1)
    low, high = min(0.0, *values), max(max(values), 1e-9) * 1.05

    def x(t: float) -> float:
        return left + (t - first) / (last - first) * (right - left)

    def y(v: float) -> float:
        return bottom - (v - low) / (high - low) * (bottom - top)

    drawn, legend = "", ""
    for share in (0.0, 0.5, 1.0):
        v = low + share * (high - low)
        drawn += f'<line x1={left} x2={right} y1={y(v):.1f} y2={y(v):.1f} stroke="#2c3235"/>'
        drawn += f"<text x={left - 4} y={y(v) + 3:.1f} text-anchor=end>{_value(v, unit)}</text>"
    for at, (name, points) in enumerate(curves):
        color = _COLORS[at % len(_COLORS)]
        path = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in points)
        drawn += f'<polyline points="{path}" fill=none stroke="{color}" stroke-width=1.5 />'
        legend += f'<span><i style="background:{color}"></i>{html.escape(name)}</span>'
    return f"<svg width={width - 16} height={height - 60}>{drawn}</svg><div class=legend>{legend}</div>"


def _legend(template: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), template)


def _value(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.1%}"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    sign = {"currencyUSD": "$", "reqps": ""}.get(unit, "")
    return f"{sign}{value:,.0f}" if abs(value) >= 1000 else f"{sign}{value:.3g}"
