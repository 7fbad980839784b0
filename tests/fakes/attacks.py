"""The injection corpus: one video per attack, and what a model that obeys it would do."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from schemas.events import VideoUpload

NONCE = "0123456789abcdef"
NEXT_ID = f"{NONCE}-2"


@dataclass(frozen=True)
class Attack:
    kind: str
    name: str
    upload: VideoUpload
    does: Sequence[str]

    def __str__(self) -> str:
        return f"{self.kind}-{self.name}"


def attacks() -> list[Attack]:
    """All attacks, as hostile as they can be: they know the code of the request and the id of the next video."""
    return _read("attacks.toml")


def held_out_attacks() -> list[Attack]:
    """Attacks on neighbours that neither the words of models/isolation nor its rules were made for."""
    return _read("attacks_held_out.toml")


def _read(file: str) -> list[Attack]:
    groups = tomllib.loads(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    return [_attack(kind, name, entry) for kind, group in groups.items() for name, entry in group.items()]


def _attack(kind: str, name: str, entry: dict[str, Any]) -> Attack:
    times, does = entry.pop("times", 1), entry.pop("does")
    fields = {field: _filled(value) for field, value in entry.items()}
    if times > 1:  # the longest field is repeated
        flooded = "transcript" if "transcript" in fields else "hashtags" if "hashtags" in fields else None
        flooded = flooded or ("description" if kind == "flooding" and name != "invisible" else "title")
        fields[flooded] = fields[flooded] * times
    upload = {"schema_version": 1, "video_id": f"{kind}-{name}", "creator_id": "c", "uploaded_at_ms": 0, **fields}
    return Attack(kind, name, msgspec.convert(upload, VideoUpload), does)


def _filled(value: Any) -> Any:
    if isinstance(value, list):
        return [_filled(one) for one in value]
    return value.replace("{nonce}", NONCE).replace("{id}", NEXT_ID)
