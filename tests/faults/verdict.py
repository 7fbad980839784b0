"""The arithmetic after a fault: nothing lost, nothing twice, every user's state as one clean pass would leave it."""

import asyncio
from collections.abc import Container, Iterable

from msgspec.structs import replace

from models.satisfaction import satisfaction
from schemas.attributes import load_catalogue
from schemas.dead_letter import DeadLetter
from schemas.events import WatchEvent
from schemas.user_state import UserState
from schemas.wire import Decoder
from streams.candidates import list_is_due
from streams.record import Record
from streams.snapshot import Snapshot
from streams.user_states import UserStates
from streams.watch import apply
from topology.attribute_store import open_table
from topology.audit import Audit, audit
from topology.changelog import Changelog
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.settings import Settings
from topology.topics import DEAD_LETTERS, USER_STATES, WATCH_EVENTS

States = dict[tuple[int, str], UserState]


def accounted(settings: Settings) -> Audit:
    """The audit of everything, which must add up."""
    result = audit(settings, open_table(settings, load_catalogue(settings.catalogue_path)))
    assert result.ok, (result, result.examples)
    return result


def kept_states(settings: Settings, producer: ConfirmedProducer, records: list[Record] | None = None) -> States:
    """The states that a worker would recover now, of the users of `records` (all watches)."""
    changelog = Changelog(settings, settings.topic(USER_STATES), producer)

    async def recover(partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        return changelog.read(partition)

    return asyncio.run(_states(settings, UserStates(recover), watches(settings) if records is None else records))


def replayed_states(settings: Settings, records: list[Record] | None = None) -> States:
    """The states that one clean pass over the topic leaves, with the catalogue as it is now."""
    table = open_table(settings, load_catalogue())
    snapshot = Snapshot(load_catalogue(), table.dim)
    snapshot.load(table.read(snapshot.columns))
    decoder, states = Decoder(WatchEvent), States()
    for record in watches(settings) if records is None else records:
        event = decoder.decode(record.value or b"")
        event = replace(event, watched_at_ms=min(event.watched_at_ms, record.timestamp_ms))
        at = (record.partition, event.user_id)
        before = states.get(at)
        after = apply(before, event, record.offset, snapshot.views([event.video_id])[0], satisfaction)
        states[at] = replace(after, watches_since_list=0) if list_is_due(before, after) else after
    return states


def dead_letters(settings: Settings) -> dict[str, DeadLetter]:
    """All dead letters by the origin of their record."""
    decoder = Decoder(DeadLetter)
    letters = [decoder.decode(record.value or b"") for record in read_topic(settings, DEAD_LETTERS)]
    return {letter.origin: letter for letter in letters}


def watches(settings: Settings, letters: Container[str] = ()) -> list[Record]:
    """All watch events that were not refused (have no letter), in the order of each partition."""
    records = (
        record
        for record in read_topic(settings, WATCH_EVENTS)
        if f"{record.topic}/{record.partition}/{record.offset}" not in letters
    )
    return sorted(records, key=lambda record: (record.partition, record.offset))


async def _states(settings: Settings, states: UserStates, records: list[Record]) -> States:
    for partition in range(settings.partitions):
        await states.ensure(partition)
    decoder = Decoder(WatchEvent)
    users = {(record.partition, decoder.decode(record.value or b"").user_id) for record in records}
    found = {at: states.get(*at) for at in users}
    return {at: state for at, state in found.items() if state is not None}
