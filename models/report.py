"""An evaluation as one HTML page that opens without a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

import numpy as np
from numpy.typing import NDArray

from models.charts import COLOURS, Axis, Series, chart
from models.evaluation import Answers, Comparison, Evaluation, Score, Truth, equal_mass_bins
from models.intervals import Interval

Floats = NDArray[np.float64]

_CURVE_POINTS = 80
_NONE = "–"


@dataclass(frozen=True)
class Judged:
    """A system's answers and what they are worth."""

    answers: Answers
    evaluation: Evaluation


def precision_recall_curve(probability: Floats, present: NDArray[np.bool_], weight: Floats) -> Floats:
    """Return [k, 2]: recall and precision as the threshold falls past each probability; at most `_CURVE_POINTS` points.

    Equal probabilities fall together.
    """
    order = np.argsort(-probability, kind="stable")
    p, hits, all_ = probability[order], np.cumsum((weight * present)[order]), np.cumsum(weight[order])
    last = np.flatnonzero(np.append(p[1:] != p[:-1], True))
    if not len(last) or hits[-1] == 0:
        return np.empty((0, 2))
    if len(last) > _CURVE_POINTS:  # evenly spaced in recall: where the curve is drawn
        wanted = np.linspace(0, hits[-1], _CURVE_POINTS)
        last = np.unique(last[np.minimum(np.searchsorted(hits[last], wanted), len(last) - 1)])
    return np.stack([hits[last] / hits[-1], hits[last] / all_[last]], axis=1)


def html_report(
    truth: Truth, judged: Judged, against: Judged | None = None, comparison: Comparison | None = None
) -> str:
    """Return the page: scores with intervals, precision and recall, reliability, cost against quality."""
    page = Template((files("models") / "report.html").read_text(encoding="utf-8"))
    both = [judged] + ([against] if against else [])
    evaluation = judged.evaluation
    return page.substitute(
        title=escape(f"{evaluation.system} on {evaluation.data}"),
        system=escape(evaluation.system),
        data=escape(evaluation.data),
        legend=" ".join(
            f'<span style="color:{COLOURS[i]}">●</span> {escape(one.evaluation.system)}' for i, one in enumerate(both)
        ),
        summary=_summary(both, comparison),
        quality_chart=_quality_chart(both),
        curves="".join(_figures(truth, both, name) for name in ("", *truth.attributes)),
        rows="".join(_row(name, score, comparison) for name, score in evaluation.attributes.items()),
        method=escape(
            f"Intervals at {evaluation.confidence:.0%}: Clopper-Pearson for precision and recall, with weights at the"
            f" effective sample size; for F1 {evaluation.bootstrap_draws} bootstrap draws of videos, seed"
            f" {evaluation.bootstrap_seed}. Weights are 1/sampling_prob. ECE over {evaluation.ece_bins} bins of equal"
            f" mass. Macro F1 over {evaluation.macro_over} attributes. An abstention is never counted as a find."
        ),
    )


def _summary(both: Sequence[Judged], comparison: Comparison | None) -> str:
    rows: list[tuple[str, list[str]]] = [
        ("", [one.evaluation.system for one in both]),
        ("macro F1", [_with(one.evaluation.macro_f1, one.evaluation.macro_f1_interval) for one in both]),
        ("micro F1", [_with(one.evaluation.micro_f1, one.evaluation.micro_f1_interval) for one in both]),
        ("ECE, mean over attributes", [_shown(one.evaluation.ece) for one in both]),
        ("abstained", [str(one.evaluation.abstained) for one in both]),
        ("videos judged", [str(one.evaluation.videos) for one in both]),
        ("videos per CPU second", [_shown(one.evaluation.effort.videos_per_cpu_s, 1) for one in both]),
        ("p95 latency, ms", [_shown(one.evaluation.effort.latency_p95_ms, 2) for one in both]),
        ("tokens per video, in", [_shown(one.evaluation.effort.input_tokens, 1) for one in both]),
        ("tokens per video, out", [_shown(one.evaluation.effort.output_tokens, 1) for one in both]),
        ("US dollars per 1,000 videos", [_shown(one.evaluation.effort.usd_per_1000, 4) for one in both]),
    ]
    if comparison:
        for name, difference in (("macro", comparison.macro_f1), ("micro", comparison.micro_f1)):
            rows.append((f"Δ {name} F1, paired", [_with(difference.delta, difference.interval), ""]))
    return "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for name, values in rows
    )


def _quality_chart(both: Sequence[Judged]) -> str:
    efforts = [one.evaluation.effort for one in both]
    costs = [
        ("US dollars per 1,000 videos", [effort.usd_per_1000 for effort in efforts]),
        (
            "CPU seconds per 1,000 videos",
            [1000 / effort.videos_per_cpu_s if effort.videos_per_cpu_s else None for effort in efforts],
        ),
        ("p95 latency, ms", [effort.latency_p95_ms for effort in efforts]),
    ]
    name, values = max(costs, key=lambda cost: sum(value is not None for value in cost[1]))
    series = [
        Series([(value, one.evaluation.macro_f1)], "marks", i, [one.evaluation.system])
        for i, (value, one) in enumerate(zip(values, both, strict=True))
        if value is not None and one.evaluation.macro_f1 is not None
    ]
    unknown = [one.evaluation.system for value, one in zip(values, both, strict=True) if value is None]
    note = f"<p>Not measured: {escape(', '.join(unknown))}.</p>" if unknown else ""
    if not series:
        return note
    axis = Axis(name, 0.0, 1.25 * max(one.points[0][0] for one in series) or 1.0)
    return chart("Cost against quality", axis, Axis("macro F1"), series, size=(520, 260)) + note


def _figures(truth: Truth, both: Sequence[Judged], attribute: str) -> str:
    """Return the two charts of one attribute, or of all pooled (""), with a caption."""
    columns = [truth.attributes.index(attribute)] if attribute else list(range(len(truth.attributes)))
    known = truth.label[:, columns] >= 0
    y, weight = truth.label[:, columns][known], truth.weight[:, columns][known]
    curves: list[Series] = []
    bins: list[Series] = []
    for i, one in enumerate(both):
        p, said = one.answers.probability[:, columns][known], one.answers.label[:, columns][known]
        there = np.isfinite(p)
        if there.any():
            curves.append(Series(_pairs(precision_recall_curve(p[there], y[there] == 1, weight[there])), "line", i))
            bins.append(Series(_pairs(equal_mass_bins(p[there], y[there], weight[there])[:, 1:]), "both", i))
        found, hits = weight[said == 1].sum(), weight[(said == 1) & (y == 1)].sum()
        if found and weight[y == 1].sum():
            curves.append(Series([(hits / weight[y == 1].sum(), hits / found)], "marks", i))
    name = attribute or "all attributes pooled"
    charts = chart(f"Precision and recall: {name}", Axis("recall"), Axis("precision"), curves)
    if bins:
        labels = Axis("probability"), Axis("share present")
        charts += chart(f"Reliability: {name}", *labels, bins, diagonal=True)
    return f"<figure><figcaption>{escape(name)}</figcaption>{charts}</figure>"


def _row(name: str, score: Score, comparison: Comparison | None) -> str:
    tested = score.alt_test
    values = [
        name,
        str(score.judged),
        str(score.positives),
        str(score.abstained),
        _with(score.precision, score.precision_interval),
        _with(score.recall, score.recall_interval),
        _with(score.f1, score.f1_interval),
        _shown(score.ece),
        _NONE if tested is None or tested.winning_rate is None else f"{tested.winning_rate:.2f}",
        _with(comparison.attributes[name].delta, comparison.attributes[name].interval) if comparison else _NONE,
    ]
    return f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"


def _pairs(table: Floats) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in table]


def _shown(value: float | None, digits: int = 3) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def _with(value: float | None, interval: Interval | None) -> str:
    return _shown(value) + (f" [{interval.lo:.3f}, {interval.hi:.3f}]" if interval else "")
