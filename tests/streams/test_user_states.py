import asyncio
import threading
from collections.abc import Iterable, Iterator

import msgspec
import pytest

from models.satisfaction import satisfaction
from schemas.errors import BrokerUnavailable, ConfigurationError
from schemas.user_state import UserState, encode_state
from streams.user_states import UserStates
from streams.watch import apply
from tests.fakes.videos import watch


def state(user_id: str, applied: int) -> UserState:
    return apply(None, watch(user_id=user_id), applied, None, satisfaction)


def record(user_id: str, applied: int, term: str = "") -> tuple[bytes, bytes]:
    return f"{user_id}{term}".encode(), encode_state(state(user_id, applied))


class Changelog:
    """Answers with these records, and remembers what it was asked for."""

    def __init__(self, *records: tuple[bytes, bytes | None]) -> None:
        self.records = list(records)
        self.asked: list[int] = []

    async def __call__(self, partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        self.asked.append(partition)
        return list(self.records)


async def recovered(*records: tuple[bytes, bytes | None]) -> UserStates:
    states = UserStates(Changelog(*records))
    await states.ensure(0)
    return states


@pytest.mark.parametrize("offsets", [(3, 7), (7, 3)])
async def test_the_highest_applied_offset_wins_and_not_the_latest_record(offsets: tuple[int, int]):
    states = await recovered(*(record("u", offset, term=f"-{offset}") for offset in offsets))
    assert states.get(0, "u") == state("u", 7)


async def test_an_owner_that_wakes_after_it_was_replaced_can_not_undo_what_came_after():
    log: list[tuple[bytes, bytes | None]] = []

    async def recover(_: int) -> Iterable[tuple[bytes, bytes | None]]:
        return list({**dict(log)}.items())  # as compacted as can be: the last record of each key

    zombie, heir = UserStates(recover), UserStates(recover)
    await zombie.ensure(0)
    log += zombie.changes(0, "u", encode_state(state("u", 3)))
    zombie.put(0, "u", 3, encode_state(state("u", 3)))
    late = zombie.changes(0, "u", encode_state(state("u", 5)))
    await heir.ensure(0)
    assert heir.get(0, "u") == state("u", 3)
    log += heir.changes(0, "u", encode_state(state("u", 9)))
    log += late
    third = UserStates(recover)
    await third.ensure(0)
    assert third.get(0, "u") == state("u", 9)


async def test_a_user_has_one_key_in_the_changelog_once_written_by_a_new_owner():
    old = record("u", 4, term="-old")
    states = await recovered(old)
    first = states.changes(0, "u", encode_state(state("u", 5)))
    assert [value is None for _, value in first] == [False, True]
    assert first[1][0] == old[0]
    states.put(0, "u", 5, encode_state(state("u", 5)))
    assert [key for key, _ in states.changes(0, "u", encode_state(state("u", 6)))] == [first[0][0]]


async def test_a_user_without_a_record_has_no_state():
    assert (await recovered(record("u", 1))).get(0, "other") is None


async def test_a_deleted_user_starts_anew():
    states = await recovered(record("u", 9), (b"u", None), record("w", 1))
    assert states.get(0, "u") is None
    assert states.get(0, "w") is not None


async def test_a_partition_is_recovered_once_until_it_is_forgotten():
    changelog = Changelog(record("u", 1))
    states = UserStates(changelog)
    await states.ensure(0)
    await states.ensure(0)
    await states.ensure(1)
    states.forget([0])
    changelog.records = [record("u", 5)]
    await states.ensure(0)
    assert changelog.asked == [0, 1, 0]
    assert states.get(0, "u") == state("u", 5)
    assert states.get(1, "u") == state("u", 1)


async def test_a_partition_that_was_begun_is_read_once_and_waited_for():
    changelog = Changelog(record("u", 1))
    states = UserStates(changelog)
    states.begin([0, 1])
    states.begin([0])
    await asyncio.gather(states.ensure(0), states.ensure(0), states.ensure(1))
    states.begin([0])
    await states.ensure(0)
    assert sorted(changelog.asked) == [0, 1]
    assert states.get(0, "u") == state("u", 1)


def test_who_needs_a_partition_in_the_very_turn_in_which_its_recovery_ends_does_not_wait_for_ever():
    async def need_it_in_every_turn() -> None:
        states = UserStates(Changelog(record("u", 1)))
        states.begin([0])
        needing: list[asyncio.Task[None]] = []
        while not (needing and needing[0].done()):
            needing.append(asyncio.create_task(states.ensure(0)))
            await asyncio.sleep(0)
        await asyncio.gather(*needing)
        assert states.get(0, "u") == state("u", 1)

    # A loop that never comes to its other callbacks can't time out either.
    thread = threading.Thread(target=asyncio.run, args=(need_it_in_every_turn(),), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


async def test_a_beginning_that_fails_is_tried_again_by_who_needs_it():
    changelog = Changelog(record("u", 1))

    async def recover(partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        records = await changelog(partition)
        if len(changelog.asked) == 1:
            raise BrokerUnavailable("away")
        return records

    states = UserStates(recover)
    states.begin([0])
    with pytest.raises(BrokerUnavailable, match="away"):
        await states.ensure(0)
    await states.ensure(0)
    assert states.get(0, "u") == state("u", 1)


async def test_reading_ends_when_the_partition_is_forgotten():
    reading, left = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless() -> Iterator[tuple[bytes, bytes]]:
        try:
            while True:
                reading.set()
                yield record("u", 1)
        finally:
            loop.call_soon_threadsafe(left.set)

    async def recover(_: int) -> Iterable[tuple[bytes, bytes | None]]:
        return endless()

    states = UserStates(recover)
    states.begin([0])
    await asyncio.to_thread(reading.wait, 10)
    states.forget([0])
    await asyncio.wait_for(left.wait(), 10)


async def test_what_was_put_is_what_is_got_and_an_older_state_does_not_replace_it():
    states = await recovered(record("u", 4))
    states.put(0, "u", 6, encode_state(state("u", 6)))
    states.put(0, "u", 5, encode_state(state("u", 5)))
    assert states.get(0, "u") == state("u", 6)


async def test_a_forgotten_partition_neither_answers_nor_keeps():
    changelog = Changelog()
    states = UserStates(changelog)
    await states.ensure(0)
    states.forget([0])
    states.put(0, "u", 6, encode_state(state("u", 6)))
    with pytest.raises(BrokerUnavailable, match="partition 0"):
        states.get(0, "u")
    await states.ensure(0)
    assert states.get(0, "u") is None


async def test_a_partition_that_is_forgotten_while_it_is_recovered_is_recovered_again():
    reading, go_on = asyncio.Event(), asyncio.Event()
    answers = [[record("u", 1)], [record("u", 8)]]

    async def recover(_: int) -> Iterable[tuple[bytes, bytes | None]]:
        answer = answers.pop(0)
        reading.set()
        await go_on.wait()
        return answer

    states = UserStates(recover)
    ensured = asyncio.create_task(states.ensure(0))
    await reading.wait()
    states.forget([0])
    go_on.set()
    await ensured
    assert states.get(0, "u") == state("u", 8)


async def test_a_malformed_state_costs_that_user_only():
    states = await recovered((b"u", b"\xc1"), record("w", 1))
    assert states.get(0, "u") is None
    assert states.get(0, "w") == state("w", 1)


async def test_states_of_a_newer_version_are_not_overwritten():
    fields = msgspec.msgpack.decode(encode_state(state("u", 1)))
    with pytest.raises(ConfigurationError, match="run the version that wrote it"):
        await recovered((b"u", msgspec.msgpack.encode([2, *fields[1:]])))
