"""Records that can't be used, kept whole with the reason."""

from schemas.dead_letter import DeadLetter
from schemas.errors import InvalidRecord
from schemas.wire import encode
from streams.clock import now_ms
from streams.record import Message, Record


def dead_letter(topic: str, stage: str, record: Record, error: InvalidRecord) -> Message:
    """Return the message that files `record` under dead letters, keyed by its origin."""
    letter = DeadLetter(
        schema_version=1,
        stage=stage,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=max(record.timestamp_ms, 0),
        failed_at_ms=now_ms(),
        kind=error.kind,
        message=str(error)[:2_000],
        key=record.key,
        payload=record.value,
        headers=tuple(record.headers),
    )
    return Message(topic, letter.origin.encode(), encode(letter), cause=record.key)
