import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from schemas.candidates import Fallback, SessionCandidates
from schemas.dead_letter import DeadLetter
from schemas.events import WatchEvent
from schemas.user_state import UserState, decode_state
from schemas.wire import Decoder, encode
from streams.candidates import SessionStage
from streams.early import Early
from streams.record import Effects, Handed, Message, Record
from streams.retrieve import RetrievalSettings
from streams.snapshot import Snapshot
from streams.user_states import UserStates
from tests.fakes.videos import CATALOGUE, DIM, NOW_MS, annotation, direction, removal, watch

VIDEOS = [
    annotation(
        f"v{i}",
        {"calm": i % 2 == 0, "eerie": None if i % 5 == 0 else i % 3 == 0},
        vector=direction(i / 40),
        creator=f"c{i % 20}",
        uploaded_at_ms=NOW_MS - i,
    )
    for i in range(40)
]


def record(event: WatchEvent, offset: int, partition: int = 0, **changes: object) -> Record:
    whole = Record("watch-events", partition, offset, NOW_MS + 10 * offset, event.user_id.encode(), encode(event))
    return whole._replace(**changes)


def behind(last: Effects) -> Early:
    """A run while the one before is not durable yet."""
    return Early(last, lambda: False, None)


class Broker:
    """What the stage has produced; its changelog is what is recovered."""

    def __init__(self) -> None:
        self.lists: list[SessionCandidates] = []
        self.letters: list[DeadLetter] = []
        self.changelog: list[Message] = []

    async def recover(self, partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        return [(message.key, message.value) for message in self.changelog if message.partition == partition]

    def take(self, effects: Effects, *, confirm: bool = True) -> list[SessionCandidates]:
        made: list[SessionCandidates] = []
        for message in effects.messages:
            assert message.value is not None
            if message.topic == "lists":
                made.append(Decoder(SessionCandidates).decode(message.value))
                assert message.key.decode() == made[-1].session_id
            else:
                self.letters.append(Decoder(DeadLetter).decode(message.value))
        self.lists += made
        self.changelog += effects.changelog
        if confirm:
            effects.confirm()
        return made

    def state(self, user_id: str = "u") -> UserState:
        states = [decode_state(message.value) for message in self.changelog if message.value is not None]
        return [state for state in states if state.user_id == user_id][-1]


@asynccontextmanager
async def session_stage(broker: Broker) -> AsyncIterator[SessionStage]:
    stage = SessionStage(
        Snapshot(CATALOGUE, DIM),
        UserStates(broker.recover),
        candidates="lists",
        user_states="states",
        dead_letters="dead",
        settings=RetrievalSettings(k=10, max_age_ms=10**13),
    )
    try:
        await stage.follow(VIDEOS)
        yield stage
    finally:
        await stage.close()


async def lists_of(*events: WatchEvent) -> list[str]:
    """Return the ids of the events that caused a list, all in one run."""
    broker = Broker()
    async with session_stage(broker) as stage:
        broker.take(await stage.run([record(event, offset) for offset, event in enumerate(events)]))
    return [made.event_id for made in broker.lists]


async def test_a_session_gets_a_list_on_its_first_event_and_every_third_watch_after_it():
    events = [watch(f"v{i}", event_id=f"e{i}") for i in range(8)]
    assert await lists_of(*events) == ["e0", "e3", "e6"]


async def test_a_new_session_gets_its_list_at_once():
    sessions = ["a", "a", "b", "b", "b", "b"]
    events = [watch(f"v{i}", event_id=f"e{i}", session_id=session) for i, session in enumerate(sessions)]
    assert await lists_of(*events) == ["e0", "e2", "e5"]


async def test_every_user_counts_alone():
    events = [watch(f"v{i}", event_id=f"e{i}", user_id=f"u{i % 2}", session_id=f"s{i % 2}") for i in range(4)]
    assert await lists_of(*events) == ["e0", "e1"]


async def test_a_list_says_whose_it_is_and_how_it_came_to_be():
    broker = Broker()
    async with session_stage(broker) as stage:
        effects = await stage.run([record(watch("v3", event_id="e7"), 5)])
        [made] = broker.take(effects)
    assert (made.session_id, made.user_id, made.event_id) == ("s", "u", "e7")
    assert len(made.candidates) == 10
    assert made.removed["seen"] == 1
    assert sum(made.quotas.values()) <= 6
    assert effects.visible_ms == [NOW_MS + 50]


async def test_a_run_leaves_one_changelog_record_per_user_in_the_partition_of_its_events():
    broker = Broker()
    events = [watch(f"v{i}", user_id=f"u{i % 2}") for i in range(6)]
    async with session_stage(broker) as stage:
        effects = await stage.run([record(event, offset, partition=3) for offset, event in enumerate(events)])
        broker.take(effects)
    assert [(m.topic, m.partition) for m in broker.changelog] == [("states", 3), ("states", 3)]
    assert [decode_state(m.value or b"").user_id for m in broker.changelog] == ["u0", "u1"]
    assert broker.state("u1").applied == 5
    assert broker.state("u1").seen == ("v1", "v3", "v5")


async def test_a_run_of_several_partitions_keeps_them_apart():
    broker = Broker()
    async with session_stage(broker) as stage:
        broker.take(await stage.run([record(watch("v1"), 7, partition=0), record(watch("v2"), 2, partition=1)]))
    assert [(m.partition, decode_state(m.value or b"").applied) for m in broker.changelog] == [(0, 7), (1, 2)]


async def test_the_same_unconfirmed_run_has_the_same_effects_again():
    records = [record(watch(f"v{i}", event_id=f"e{i}"), i) for i in range(5)]
    broker = Broker()
    async with session_stage(broker) as stage:
        first, second = [broker.take(await stage.run(records), confirm=False) for _ in range(2)]
    assert [(made.candidates, made.quotas) for made in first] == [(made.candidates, made.quotas) for made in second]
    assert len(first) == 2
    assert broker.changelog[0] == broker.changelog[1]


async def test_a_confirmed_run_has_no_effects_again():
    records = [record(watch(f"v{i}"), i) for i in range(5)]
    async with session_stage(broker := Broker()) as stage:
        broker.take(await stage.run(records))
        again = await stage.run(records)
    assert (list(again.messages), list(again.changelog), list(again.visible_ms)) == ([], [], [])


@settings(max_examples=30, deadline=None)
@given(st.data())
async def test_states_are_those_of_one_clean_pass_however_events_are_cut_repeated_and_recovered(data: st.DataObject):
    count = data.draw(st.integers(1, 12))
    events = [
        watch(
            f"v{data.draw(st.integers(0, 45))}",
            event_id=f"e{i}",
            session_id=data.draw(st.sampled_from("ab")),
            watched_at_ms=NOW_MS - data.draw(st.integers(0, 10**8)),
            watch_ms=data.draw(st.integers(0, 30_000)),
            disliked=data.draw(st.booleans()),
        )
        for i in range(count)
    ]
    records = [record(event, offset) for offset, event in enumerate(events)]
    async with session_stage(clean := Broker()) as stage:
        clean.take(await stage.run(records))

    messy, done = Broker(), 0
    while done < count:
        async with session_stage(messy) as stage:  # a new worker, which recovers what was made durable
            while done < count:
                start = data.draw(st.integers(0, done))
                end = data.draw(st.integers(done + 1, count))
                effects = await stage.run(records[start:end])
                if data.draw(st.booleans()):
                    # Crash: the messages are out, and perhaps the changelog.
                    messy.take(Effects(messages=effects.messages), confirm=False)
                    if data.draw(st.booleans()):
                        messy.changelog += effects.changelog
                        done = end
                    break
                messy.take(effects)
                done = end
    assert messy.state() == clean.state()
    # What is on a list may differ: a new worker's crowd has seen other watches.
    assert {made.event_id for made in messy.lists} == {made.event_id for made in clean.lists}


async def test_a_run_behind_another_has_the_states_that_it_will_leave_and_holds_on_to_no_earlier_one():
    async with session_stage(Broker()) as stage:
        first = await stage.run([record(watch("v1", user_id="a"), 0), record(watch("v2", user_id="b"), 1)])
        second = await stage.run([record(watch("v3", user_id="b", event_id="e3"), 2)], behind(first))
        third = await stage.run([record(watch("v4", user_id="c"), 3)], behind(second))
    [state] = [decode_state(message.value) for message in second.changelog]
    assert (state.applied, state.seen) == (2, ("v2", "v3"))
    assert [run.changes.noted.users for run in (second, third)] == [{(0, "b")}, {(0, "c")}]
    assert third.changes.noted.users_before == {(0, "b")}


async def test_a_run_behind_one_of_another_term_does_not_build_on_it():
    broker = Broker()
    states = UserStates(broker.recover)
    stage = SessionStage(
        Snapshot(CATALOGUE, DIM), states, candidates="lists", user_states="states", dead_letters="dead"
    )  # fmt: skip
    try:
        first = await stage.run([record(watch("v1"), 0)])
        states.forget([0])
        second = await stage.run([record(watch("v2", event_id="e2"), 1)], behind(first))
    finally:
        await stage.close()
    [state] = [decode_state(message.value) for message in second.changelog]
    assert state.seen == ("v2",)


async def test_who_has_waited_longest_has_a_list_first_and_what_is_of_one_partition_stays_in_order():
    waited = [(0, "a", 300), (0, "b", 500), (1, "c", 400), (1, "d", 100), (2, "e", 200)]  # d's clock was set back
    records = [
        record(watch("v1", user_id=user, session_id=user), offset, partition, timestamp_ms=NOW_MS + ms)
        for offset, (partition, user, ms) in enumerate(waited)
    ]
    async with session_stage(Broker()) as stage:
        sent = Early(None, lambda: True, lambda messages: [Handed(message, Future()) for message in messages])
        effects = await stage.run(records, sent)
    assert [handed.message.key for handed in effects.handed] == [b"e", b"a", b"c", b"d", b"b"]
    assert effects.messages == []


async def test_a_fast_clock_can_not_age_what_came_before():
    async with session_stage(broker := Broker()) as stage:
        broker.take(await stage.run([record(watch("v2"), 0), record(watch("v4", watched_at_ms=NOW_MS * 2), 1)]))
    assert broker.state().updated_at_ms == NOW_MS + 10
    assert broker.state().affinities["calm"].n == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"key": b"someone else"}, "impossible"),
        ({"key": None}, "impossible"),
        ({"value": None}, "impossible"),
        ({"value": b"{"}, "undecodable"),
        ({"value": b"{}"}, "invalid"),
    ],
)
async def test_what_can_not_be_used_is_a_dead_letter_and_the_rest_goes_on(changes: dict[str, bytes | None], kind: str):
    async with session_stage(broker := Broker()) as stage:
        broker.take(
            await stage.run([record(watch("v1"), 0)._replace(**changes), record(watch("v2", event_id="ok"), 1)])
        )
    assert [(letter.kind, letter.offset) for letter in broker.letters] == [(kind, 0)]
    assert [made.event_id for made in broker.lists] == ["ok"]


async def test_lists_follow_the_catalogue_as_it_changes():
    async with session_stage(broker := Broker()) as stage:
        await stage.follow([removal(f"v{i}") for i in range(1, 40)])
        await stage.follow([annotation("loaded")])
        [made] = broker.take(await stage.run([record(watch("v30"), 0)]))
    assert {candidate.video_id for candidate in made.candidates} == {"v0", "loaded"}


async def test_runs_and_updates_at_once_take_turns():
    async def follow(stage: SessionStage, updates: Sequence[int]) -> None:
        for update in updates:
            await stage.follow([annotation(f"n{update}-{i}", creator=f"n{i}") for i in range(200)])

    async with session_stage(broker := Broker()) as stage:
        following = asyncio.create_task(follow(stage, range(10)))
        for offset in range(30):
            broker.take(await stage.run([record(watch(f"v{offset}", event_id=f"e{offset}"), offset)]))
        await following
    assert len(broker.lists) == 10
    assert all(len(made.candidates) == 10 for made in broker.lists)


async def test_lists_and_removals_are_counted_when_they_are_confirmed():
    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    def seen() -> float:
        return counted("vibestream_candidates_removed_total", reason="seen")

    def lists() -> float:
        return sum(counted("vibestream_candidate_lists_total", fallback=level) for level in get_args(Fallback))

    async with session_stage(broker := Broker()) as stage:
        before = lists(), seen()
        effects = await stage.run([record(watch("v1"), 0)])
        assert (lists(), seen()) == before
        broker.take(effects)
    assert (lists(), seen()) == (before[0] + 1, before[1] + 1)


def test_unused_fields_of_a_watch_are_ignored():
    value = msgspec.json.encode({**msgspec.to_builtins(watch("v1")), "player": "tv"})
    assert Decoder(WatchEvent).decode(value) == watch("v1")
