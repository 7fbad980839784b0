"""Uploads for benchmarks: real sentences where they are at hand, those of the demo otherwise."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from models.goemotions import LABELS, read_goemotions
from schemas.attributes import load_catalogue
from schemas.events import VideoUpload
from schemas.wire import encode
from streams.clock import now_ms
from streams.record import Message
from topology.demo.content import load_uploads

_SEED = 1


def sentences(real: Path | None) -> tuple[str, list[str]]:
    """Return sentences and what they are: the GoEmotions train split in the folder `real`, or the demo's texts."""
    path = real / "goemotions_train.tsv.gz" if real else None
    if path is not None and path.exists():
        return "GoEmotions", list(read_goemotions(path, LABELS, load_catalogue()).texts)
    demo = [one.upload for one in load_uploads(now_ms())]
    return "demo", [text for upload in demo for text in (upload.title, upload.description) if text]


def uploads(texts: Sequence[str], count: int) -> Iterator[VideoUpload]:
    """Yield `count` uploads of one title and one description each, in another order each time all were used."""
    chance, now = random.Random(_SEED), now_ms()
    titles, descriptions = list(texts), list(texts)
    for number in range(count):
        at = number % len(texts)
        if at == 0:
            chance.shuffle(titles)
            chance.shuffle(descriptions)
        yield VideoUpload(
            schema_version=1,
            video_id=f"v{number:010d}",
            creator_id=f"c{number % 5_000}",
            uploaded_at_ms=now - 60_000 + number % 60_000,
            title=titles[at][:500],
            description=descriptions[at],
            hashtags=("fyp", f"Tag{number % 997}"),
            language="en",
            duration_ms=5_000 + number % 55_000,
        )


def upload_messages(topic: str, texts: Sequence[str], count: int) -> Iterator[Message]:
    """Yield the same as records of a topic."""
    for upload in uploads(texts, count):
        yield Message(topic, upload.video_id.encode(), encode(upload))
