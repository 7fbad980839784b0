"""The uploads that the demo produces."""

from importlib.resources import files
from typing import Any

import msgspec
from msgspec import Struct

from schemas.events import VideoUpload

WINDOW_MS = 48 * 3_600_000


class DemoUpload(Struct, frozen=True):
    """An upload and `moods`: the ids of the attributes that its author gave it, empty where none stands out."""

    upload: VideoUpload
    moods: tuple[str, ...]


def load_uploads(now_ms: int) -> list[DemoUpload]:
    """Return all demo uploads, oldest first, spread evenly over the 48 hours before `now_ms` (epoch milliseconds)."""
    lines = (files("topology.demo") / "uploads.jsonl").read_bytes().splitlines()
    rows = [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]
    return [
        DemoUpload(
            upload=msgspec.convert(
                {
                    **row,
                    "schema_version": 1,
                    "uploaded_at_ms": now_ms - WINDOW_MS + WINDOW_MS * position // len(rows),
                },
                VideoUpload,
            ),
            moods=msgspec.convert(row["moods"], tuple[str, ...]),
        )
        for position, row in enumerate(rows)
    ]
