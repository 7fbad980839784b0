"""The one protocol of all stages: the author writes `decode` and `process`, `run` does what every stage owes."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

from monitoring import metrics
from monitoring.item_histogram import ItemHistogram
from schemas.errors import InvalidRecord
from streams.dead_letter import dead_letter
from streams.early import Early, Send
from streams.record import Effects, Message, Record

T = TypeVar("T")


class Item(NamedTuple, Generic[T]):
    """A decoded event and the record that it came in."""

    record: Record
    event: T


class Stage(ABC, Generic[T]):
    """A step of the stream.

    `process` gets every decodable item of a run, oldest first, and returns their effects. It may be called again with
    the same items, so its effects must be idempotent and its memory may change only in `Effects.confirm`. An exception
    means that nothing happened: `Unavailable` while a service is away, anything else when some item can't be
    processed.
    """

    name: ClassVar[str]
    freshness: ClassVar[ItemHistogram | None] = None
    needs_of_last: ClassVar[Literal["durable", "effects", "nothing"]] = "durable"
    """What a run needs of the one before: that it is durable, or while it is not its effects, or nothing."""

    def __init__(self, dead_letters: str) -> None:
        """`dead_letters` is the topic for records that can't be used."""
        self._dead_letters = dead_letters

    @abstractmethod
    def decode(self, record: Record) -> T:
        """Return the event in `record` or raise InvalidRecord."""

    @abstractmethod
    async def process(self, items: Sequence[Item[T]]) -> Effects:
        """Return the effects of `items`."""

    async def process_behind(self, items: Sequence[Item[T]], last: Effects | None, send: Send) -> Effects:
        """Return the effects of `items` as if the run before were durable, whose effects are `last`; None: it is.

        It is called first where `needs_of_last` is "effects". If the run before comes to something else, or this try
        comes to nothing, `process` is called with the same items. Messages that `send` is given, from any thread, are
        no part of the effects: they need not wait for the rest of the run.
        """
        raise NotImplementedError

    async def run(self, records: Sequence[Record], early: Early | None = None) -> Effects:
        """Decode and process `records`, `early` where they are; the refused ones become dead letters."""
        started = time.perf_counter()
        items: list[Item[T]] = []
        refused: list[tuple[Record, InvalidRecord]] = []
        for record in records:
            try:
                items.append(Item(record, self.decode(record)))
            except InvalidRecord as error:
                # Without its traceback, which holds this frame, and so the whole run until garbage is collected.
                refused.append((record, InvalidRecord(error.kind, str(error))))
        effects = Effects()
        if items:
            process = self.process if early is None else partial(self.process_behind, last=early.last, send=early.send)
            effects = await process(items)
        refused.extend(effects.refused)
        metrics.STAGE_SECONDS.labels(self.name).observe(time.perf_counter() - started)
        held, handed = ([], []) if early is None else (early.held, early.handed)
        return replace(
            effects, messages=[*held, *effects.messages, *self.refuse(refused)], refused=refused, handed=handed
        )

    def refuse(self, refused: Sequence[tuple[Record, InvalidRecord]]) -> list[Message]:
        """Return the dead letters of records that can't be used."""
        return [dead_letter(self._dead_letters, self.name, record, error) for record, error in refused]


def record_key(record: Record) -> str:
    """Return the record's key as text; every topic that a stage reads is keyed.

    Raises:
        InvalidRecord: there is no key or it is no UTF-8 text.

    """
    if not record.key:
        raise InvalidRecord("impossible", f"a record of {record.topic} has no key; key it as the topic's document says")
    try:
        return record.key.decode()
    except UnicodeDecodeError as error:
        raise InvalidRecord("undecodable", f"key {record.key[:100]!r} is no UTF-8 text") from error
