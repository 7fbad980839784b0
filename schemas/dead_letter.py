"""What could not be used, whole, with the reason."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.errors import ErrorKind
from schemas.fields import EpochMs, Id, SchemaVersion


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record that a stage refused. Key: topic/partition/offset, so that a redelivery is the same dead letter.

    `key`, `payload` and header values are the original bytes (base64 on the wire).
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

    @property
    def origin(self) -> str:
        """Where the record came from, as the key of its dead letter."""
        return f"{self.topic}/{self.partition}/{self.offset}"
