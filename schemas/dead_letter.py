"""What could not be used, whole, with the reason."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.errors import ErrorKind
from schemas.fields import EpochMs, Id, SchemaVersion


class Resolution(Struct, frozen=True, kw_only=True):
    """What was done about a dead letter, and how often its record has been sent again by then, over all its letters."""

    action: Literal["replayed", "dropped"]
    at_ms: EpochMs
    replays: Annotated[int, Meta(ge=0)]


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record that a stage refused. Key: topic/partition/offset, so that a redelivery is the same dead letter.

    `key`, `payload` and header values are the original bytes (base64 on the wire). A letter that was handled is filed
    once more under its key, with its `resolution`.
    """

    schema_version: SchemaVersion
    stage: Id
    topic: Id
    partition: int
    offset: int
    timestamp_ms: EpochMs
    failed_at_ms: EpochMs
    kind: ErrorKind
    message: Annotated[str, Meta(max_length=2_000)]
    key: bytes | None
    payload: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    resolution: Resolution | None = None

    @property
    def origin(self) -> str:
        """Where the record came from, as the key of its dead letter."""
        return f"{self.topic}/{self.partition}/{self.offset}"
