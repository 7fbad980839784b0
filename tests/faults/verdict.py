"""The arithmetic after a fault: nothing lost, nothing twice, every user's state as one clean pass would leave it."""

import asyncio
from collections.abc import Iterable

from msgspec.structs import replace

from models.satisfaction import satisfaction
from schemas.attributes import load_catalogue
from schemas.events import WatchEvent
from schemas.user_state import UserState
from schemas.wire import Decoder
from streams.candidates import list_is_due
from streams.record import Record
from streams.snapshot import Snapshot
from streams.user_states import UserStates
from streams.watch import apply
from topology.audit import Audit, audit
from topology.changelog import Changelog
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.roles import open_table
from topology.settings import Settings
from topology.topics import USER_STATES, WATCH_EVENTS

States = dict[tuple[int, str], UserState]


def accounted(settings: Settings) -> Audit:
    """The audit of everything, which must add up."""
    result = audit(settings, open_table(settings, load_catalogue()))
    assert result.ok, (result, result.examples)
    return result


def kept_states(settings: Settings, producer: ConfirmedProducer) -> States:
    """The states that a worker would recover now."""
    changelog = Changelog(settings, settings.topic(USER_STATES), producer)

    async def recover(partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        return changelog.read(partition)

    return asyncio.run(_states(settings, UserStates(recover), watches(settings)))


def replayed_states(settings: Settings) -> States:
    """The states that one clean pass over the topic leaves, with the catalogue as it is now."""
    table = open_table(settings, load_catalogue())
    snapshot = Snapshot(load_catalogue(), table.dim)
    snapshot.load(table.read(snapshot.columns))
    decoder, states = Decoder(WatchEvent), States()
    for record in watches(settings):
        event = decoder.decode(record.value or b"")
        event = replace(event, watched_at_ms=min(event.watched_at_ms, record.timestamp_ms))
        at = (record.partition, event.user_id)
        before = states.get(at)
        after = apply(before, event, record.offset, snapshot.view(event.video_id), satisfaction)
        states[at] = replace(after, watches_since_list=0) if list_is_due(before, after) else after
    return states


def watches(settings: Settings) -> list[Record]:
    """All watch events, in the order of each partition."""
    return sorted(read_topic(settings, WATCH_EVENTS), key=lambda record: (record.partition, record.offset))


async def _states(settings: Settings, states: UserStates, records: list[Record]) -> States:
    for partition in range(settings.partitions):
        await states.ensure(partition)
    decoder = Decoder(WatchEvent)
    users = {(record.partition, decoder.decode(record.value or b"").user_id) for record in records}
    found = {at: states.get(*at) for at in users}
    missing = [at for at, state in found.items() if state is None]
    assert not missing, f"users without a state: {missing[:5]} of {len(missing)}"
    return {at: state for at, state in found.items() if state is not None}
