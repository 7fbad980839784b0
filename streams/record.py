"""What a stage is handed and what it hands back, free of any Kafka client."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.errors import InvalidRecord

Headers = Sequence[tuple[str, bytes | None]]


class Record(NamedTuple):
    """A record as it lies in the broker; `timestamp_ms` is the broker's, epoch milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Message(NamedTuple):
    """A record to produce; a value of None deletes the key in a compacted topic.

    Without a partition the key decides; a changelog names the partition of the events that it belongs to, because
    whoever produced those may hash keys otherwise. `cause` is the key of the record that caused it, where its own is
    another.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
    cause: bytes | None = None


class Handed(NamedTuple):
    """A message that was handed over, and what ends when the broker has acknowledged it, or can't."""

    message: Message
    acknowledgement: Future[None]


def _nothing() -> None: ...


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What a run of records causes, in the order in which it becomes durable.

    `messages` are produced first; once all are acknowledged, `changelog`; then `confirm` is called, and only then may
    the stage's memory change. `refused` records become dead letters among the messages. `visible_ms` holds, per item
    that becomes visible with these effects, when the broker received its cause (epoch milliseconds). `changes` are what
    `confirm` will change in the stage's memory, if the next run may build on them: see `Stage.process_behind`. `handed`
    are messages that are on their way already.
    """

    messages: Sequence[Message] = ()
    changelog: Sequence[Message] = ()
    refused: Sequence[tuple[Record, InvalidRecord]] = ()
    visible_ms: Sequence[int] = ()
    confirm: Callable[[], None] = field(default=_nothing)
    changes: object = None
    handed: Sequence[Handed] = ()
