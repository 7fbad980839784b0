"""What a demo plays: uploads and watches, synthetic ones that ship or real ones from a folder."""

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ConfigurationError
from schemas.events import VideoUpload, WatchEvent
from streams.clock import now_ms
from topology.demo.content import load_uploads
from topology.demo.viewers import watch_events

_SESSION_GAP_MS = 30 * 60_000
_WATCHES = 5_000
_SEED = 7


@dataclass(frozen=True)
class Scenario:
    """Events in the order in which they are sent, rates per second, and settings that the events need."""

    note: str
    uploads: Sequence[VideoUpload]
    watches: Sequence[WatchEvent]
    upload_rate: float
    watch_rate: float
    changes: Mapping[str, object] = field(default_factory=dict[str, object])


def synthetic_scenario() -> Scenario:
    """Return the catalogue that ships and simulated viewers."""
    now = now_ms()
    uploads = load_uploads(now)
    return Scenario(
        "Synthetic: uploads written for this demo, simulated viewers.",
        [one.upload for one in uploads],
        list(watch_events(uploads, _WATCHES, _SEED, now)),
        upload_rate=60,
        watch_rate=400,
    )


def real_scenario(folder: Path) -> Scenario:
    """Return the KuaiRand-Pure log and its videos, with GoEmotions dev texts joined by position, which is synthetic.

    Raises:
        ConfigurationError: a file is missing or malformed.

    """
    try:
        log = pq.read_table(folder / "kuairand_pure_watch_log.parquet").sort_by("time_ms").to_pylist()
        features = pq.read_table(
            folder / "kuairand_pure_item_features.parquet",
            columns=["video_id", "author_id", "upload_dt", "video_duration"],
        ).to_pylist()
        with gzip.open(folder / "goemotions_dev.tsv.gz", "rt", encoding="utf-8", newline="") as file:
            texts = [row[0] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    except (OSError, EOFError, pa.ArrowException) as error:
        raise ConfigurationError(f"{folder}: {error}; the folder needs KuaiRand-Pure and GoEmotions") from error
    watched = {row["video_id"] for row in log}
    uploads = [
        _upload(row, texts[position % len(texts)])
        for position, row in enumerate(row for row in features if row["video_id"] in watched)
    ]
    return Scenario(
        "Real watches, creators, durations and upload days (KuaiRand-Pure); texts from GoEmotions dev, joined by"
        " position: the join is synthetic, so which video has which vibe means nothing.",
        sorted(uploads, key=lambda upload: upload.uploaded_at_ms),
        _watches(log),
        upload_rate=400,
        watch_rate=400,
        changes={"max_age_days": 36_500.0},  # the log is of 2022
    )


def _upload(row: Mapping[str, Any], text: str) -> VideoUpload:
    day = datetime.strptime(row["upload_dt"], "%Y-%m-%d").replace(tzinfo=UTC)
    duration = row["video_duration"]
    return VideoUpload(
        schema_version=1,
        video_id=str(row["video_id"]),
        creator_id=str(row["author_id"]),
        uploaded_at_ms=int(day.timestamp() * 1000),
        title=text[:500],
        language="en",
        duration_ms=None if duration is None else int(duration),
    )


def _watches(log: Sequence[Mapping[str, Any]]) -> list[WatchEvent]:
    """Number a user's sessions: a new one begins after half an hour without a watch."""
    last: dict[int, int] = {}
    session: dict[int, int] = {}
    events: list[WatchEvent] = []
    for position, row in enumerate(log):
        user, at = row["user_id"], row["time_ms"]
        if at - last.get(user, at - _SESSION_GAP_MS - 1) > _SESSION_GAP_MS:
            session[user] = session.get(user, 0) + 1
        last[user] = at
        events.append(
            WatchEvent(
                schema_version=1,
                event_id=f"e{position}",
                user_id=str(user),
                session_id=f"{user}-{session[user]}",
                video_id=str(row["video_id"]),
                watched_at_ms=at,
                watch_ms=row["play_time_ms"],
                duration_ms=row["duration_ms"],
                liked=bool(row["is_like"]),
                shared=bool(row["is_forward"]),
                followed=bool(row["is_follow"]),
                commented=bool(row["is_comment"]),
                disliked=bool(row["is_hate"]),
            )
        )
    return events
