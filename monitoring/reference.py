"""The reference of all metrics, as Markdown: `python -m monitoring.reference`."""

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from monitoring import metrics
from monitoring.item_histogram import ItemHistogram
from monitoring.matrix_counter import MatrixCounter

_HEAD = """\
# Metrics

Every worker, and `vibestream lag-exporter`, serves these at `/metrics` of its `VIBESTREAM_METRICS_PORT`. This page is
made from [monitoring/metrics.py](../monitoring/metrics.py) by `make metrics`. Units are Prometheus's base units. Labels
are bounded: none is a user, a session or a video. What else is served, `process_*` and `python_*`, comes from
prometheus-client. What a worker does not do stays 0 there, or has no series.
"""

_LABELS = {
    "attribute": "an id of the catalogue",
    "band": "accept, reject, uncertain",
    "cause": "why the LLM is not asked: failures, quota, credentials, model, request",
    "certainty": "certain, uncertain",
    "direction": "input, output",
    "error": "the class of an error",
    "error_type": "as outcome; empty where there was none",
    "fallback": "none, any_attribute, uncertain, co_watched, popular, newest",
    "gen_ai_operation_name": "generate_content",
    "gen_ai_provider_name": "gcp.gemini, local",
    "gen_ai_request_model": "the model that is set",
    "gen_ai_token_type": "input, output",
    "group": "a consumer group, one a role",
    "kind": "of a dead letter, an LLM, a disagreement, or of text: on_screen, heard",
    "lane": "restricted, unrestricted, popular, co_watched, new, newest",
    "outcome": "answered, loaded, compared …, or what went wrong",
    "partition": "a number",
    "percent": "50, 80, 100",
    "provider": "cpu, cuda, or ONNX Runtime's name for it",
    "reason": "the filter that took a candidate out",
    "result": "known, under_way, to_ask",
    "risk": "why a question goes alone",
    "role": "annotate, review, store, session, media",
    "slot": "serving, shadow",
    "source": "student, llm; of frames: encoded, known",
    "stage": "annotate, review, store, session, media",
    "step": "fetch, decode, on_screen, heard, encode",
    "status": "of an annotation (provisional, final, removed) or an HTTP status",
    "table": "a table of the store, one a shard",
    "topic": "a topic of vibestream's",
    "verdict": "agreed, overturned, unclear",
    "wanted": "cpu, cuda",
    "why": "pacing, failed, budget; or what was not believed; or why a decoder ended",
    "window": "hour, day",
}
"""What the values of a label are."""


class Described(NamedTuple):
    """A metric as it is exposed."""

    name: str
    kind: str
    labels: tuple[str, ...]
    documentation: str


def described() -> Iterator[Described]:
    """Yield every metric of monitoring.metrics, in its order."""
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase | ItemHistogram | MatrixCounter):
            [family] = metric.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield Described(name, family.type, _labels(metric), family.documentation)


def document() -> str:
    """Return the page."""
    every = list(described())
    lines = [_HEAD, "| metric | kind | labels | what |", "|---|---|---|---|"]
    lines += [f"| `{m.name}` | {m.kind} | {', '.join(m.labels)} | {_cell(m.documentation)} |" for m in every]
    used = sorted({label for metric in every for label in metric.labels})
    lines += ["", "| label | values |", "|---|---|"]
    lines += [f"| {label} | {_LABELS[label]} |" for label in used]
    return "\n".join(lines)


def _labels(metric: MetricWrapperBase | ItemHistogram | MatrixCounter) -> tuple[str, ...]:
    if isinstance(metric, ItemHistogram | MatrixCounter):
        return metric.labelnames
    # Private, for want of another place: a metric without series shows its labels nowhere else.
    return tuple(metric._labelnames)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(document())
