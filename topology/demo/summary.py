"""The summary of a demo: what was sent, what became of it, and how fast."""

from collections.abc import Sequence

import msgspec

from monitoring.scrape import Sample, quantile, total
from topology.audit import Audit


class UploadSummary(msgspec.Struct, frozen=True):
    """Uploads sent and what their newest annotations are."""

    sent: int
    final: int
    provisional: int
    dead_lettered: int
    lost: int


class StoreSummary(msgspec.Struct, frozen=True):
    """Rows in LanceDB."""

    rows: int
    duplicates: int


class CandidateSummary(msgspec.Struct, frozen=True):
    """Candidate lists produced."""

    lists: int
    empty: int


class LlmSummary(msgspec.Struct, frozen=True):
    """Who reviewed, and the requests it took."""

    kind: str
    calls: int


class Quantiles(msgspec.Struct, frozen=True):
    """Milliseconds; None when nothing was measured."""

    p50: float | None
    p99: float | None


class LatencySummary(msgspec.Struct, frozen=True):
    """From the broker's receipt of an event to its effect, from the workers' histograms."""

    upload_to_searchable: Quantiles
    watch_to_candidates: Quantiles


class Summary(msgspec.Struct, frozen=True):
    """All of it."""

    uploads: UploadSummary
    store: StoreSummary
    candidates: CandidateSummary
    llm: LlmSummary
    latency_ms: LatencySummary


def summarize(
    audit: Audit,
    sent: int,
    candidates: CandidateSummary,
    llm: str,
    review: Sequence[Sample],
    store: Sequence[Sample],
    session: Sequence[Sample],
) -> Summary:
    """Return the summary of an audit and of what the workers of three roles expose."""
    return Summary(
        UploadSummary(
            sent,
            audit.annotations.final,
            audit.annotations.provisional,
            audit.uploads.dead_lettered,
            audit.uploads.lost + sent - audit.uploads.records,
        ),
        StoreSummary(audit.store.rows, audit.store.duplicates),
        candidates,
        LlmSummary(llm, int(total(review, "vibestream_llm_calls_total"))),
        LatencySummary(
            _quantiles(store, "vibestream_upload_to_searchable_seconds"),
            _quantiles(session, "vibestream_watch_to_candidates_seconds"),
        ),
    )


def _quantiles(samples: Sequence[Sample], histogram: str) -> Quantiles:
    p50, p99 = (quantile(samples, histogram, q) for q in (0.5, 0.99))
    return Quantiles(_ms(p50), _ms(p99))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
