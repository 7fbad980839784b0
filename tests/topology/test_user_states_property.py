"""Whatever is delivered twice, and whoever owns a partition when: users end as one clean pass leaves them."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.candidates import SessionCandidates
from schemas.errors import BrokerUnavailable
from schemas.events import WatchEvent
from schemas.user_state import UserState
from schemas.wire import Decoder, encode
from streams.candidates import SessionStage
from streams.delivery import Backoff, Delivery
from streams.record import Effects, Handed, Message, Record
from streams.snapshot import Snapshot
from streams.user_states import UserStates
from tests.fakes.videos import CATALOGUE, DIM, NOW_MS, annotation, direction, watch

LISTS = Decoder(SessionCandidates)
USERS = ("u0", "u1", "u2", "u3")
VIDEOS = [
    annotation(f"v{i}", {"calm": i % 2 == 0, "eerie": i % 3 == 0, "funny": None}, vector=direction(i / 10))
    for i in range(12)
]


class Changelog:
    """One partition of a compacted topic."""

    def __init__(self) -> None:
        self._kept: dict[bytes, bytes] = {}

    async def recover(self, _: int) -> Iterable[tuple[bytes, bytes | None]]:
        return list(self._kept.items())

    def write(self, effects: Effects) -> None:
        for message in effects.changelog:
            key = message.key or b""
            if message.value is None:
                self._kept.pop(key, None)
            else:
                self._kept.pop(key, None)
                self._kept[key] = message.value

    async def states(self) -> dict[str, UserState]:
        """What the next owner recovers."""
        owner = UserStates(self.recover)
        await owner.ensure(0)
        found = {user: owner.get(0, user) for user in USERS}
        return {user: state for user, state in found.items() if state is not None}


@asynccontextmanager
async def worker(changelog: Changelog) -> AsyncIterator[SessionStage]:
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply(VIDEOS)
    states = UserStates(changelog.recover)
    stage = SessionStage(
        snapshot, states, candidates="session-candidates", user_states="user-states", dead_letters="dead-letters"
    )
    try:
        yield stage
    finally:
        await stage.close()


async def deliver(
    stage: SessionStage, changelog: Changelog, records: Sequence[Record], *, confirm: bool = True
) -> None:
    effects = await stage.run(records)
    changelog.write(effects)
    if confirm:
        effects.confirm()


def runs(records: Sequence[Record], lengths: Iterable[int]) -> Iterator[Sequence[Record]]:
    at = 0
    for length in lengths:
        yield records[at : at + length]
        at += length
    yield records[at:]


@st.composite
def traffic(draw: st.DrawFn) -> list[Record]:
    watches = draw(
        st.lists(
            st.tuples(
                st.sampled_from(USERS),
                st.sampled_from([video.video_id for video in VIDEOS] + ["unknown"]),
                st.integers(0, 30_000),
                st.integers(-3_600_000, 90_000_000),
                st.booleans(),
            ),
            min_size=2,
            max_size=60,
        )
    )
    events: list[WatchEvent] = [
        watch(
            video_id, event_id=f"e{number}", user_id=user, session_id=f"s{number // 7}",
            watched_at_ms=NOW_MS + after_ms, watch_ms=watch_ms, liked=liked,
        )
        for number, (user, video_id, watch_ms, after_ms, liked) in enumerate(watches)
    ]  # fmt: skip
    return [
        Record("watch-events", 0, offset, 0, event.user_id.encode(), encode(event))
        for offset, event in enumerate(events)
    ]


async def clean(records: Sequence[Record]) -> dict[str, UserState]:
    changelog = Changelog()
    async with worker(changelog) as stage:
        await deliver(stage, changelog, records)
    return await changelog.states()


@settings(max_examples=25, deadline=None)
@given(records=traffic(), data=st.data())
def test_redelivery_of_a_tenth_and_a_rebalance_in_the_middle_leave_every_state_as_a_clean_pass(
    records: list[Record], data: st.DataObject
) -> None:
    moved = data.draw(st.integers(1, len(records) - 1), label="where the partition moves")
    committed = data.draw(st.integers(0, moved), label="what the first owner has committed")
    lengths = data.draw(st.lists(st.integers(1, 20), max_size=4), label="lengths of runs")
    tenth = len(records) // 10 + 1
    again = data.draw(st.sets(st.integers(0, len(records) - 1), min_size=tenth, max_size=tenth), label="again")
    confirmed = data.draw(st.booleans(), label="the first owner lives to confirm its last run")

    async def faulty() -> dict[str, UserState]:
        changelog = Changelog()
        async with worker(changelog) as first, worker(changelog) as second:
            *before, last = runs(records[:moved], lengths)
            for run in before:
                await deliver(first, changelog, run)
            await deliver(first, changelog, last, confirm=confirmed)
            for run in runs(records[committed:], lengths):
                await deliver(second, changelog, run)
                done = run[-1].offset if run else -1
                await deliver(second, changelog, [records[offset] for offset in sorted(again) if offset <= done])
        return await changelog.states()

    assert asyncio.run(faulty()) == asyncio.run(clean(records))


@settings(max_examples=15, deadline=None)
@given(records=traffic(), data=st.data())
def test_an_owner_that_goes_on_after_it_was_replaced_changes_nothing(
    records: list[Record], data: st.DataObject
) -> None:
    moved = data.draw(st.integers(1, len(records) - 1), label="where the partition moves")
    late = data.draw(st.integers(moved, len(records)), label="how far the old owner goes on")

    async def frozen() -> dict[str, UserState]:
        changelog = Changelog()
        async with worker(changelog) as old, worker(changelog) as new:
            await deliver(old, changelog, records[:moved])
            await deliver(new, changelog, records[moved:])
            await deliver(old, changelog, records[moved:late])
        return await changelog.states()

    assert asyncio.run(frozen()) == asyncio.run(clean(records))


@settings(max_examples=25, deadline=None)
@given(records=traffic(), data=st.data())
def test_runs_that_are_processed_ahead_leave_every_state_and_list_as_if_one_after_the_other(
    records: list[Record], data: st.DataObject
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 6), max_size=20), label="lengths of runs")
    away = data.draw(st.lists(st.booleans(), max_size=20), label="when the broker is away")
    early = data.draw(st.booleans(), label="lists are sent when they are made")

    async def delivered(
        lengths: Sequence[int], away: Sequence[bool]
    ) -> tuple[dict[str, UserState], set[str], dict[str, str]]:
        """Return the states, which events have a list, and that of the last list of each user."""
        changelog, lists, outcomes = Changelog(), list[SessionCandidates](), list(away)
        on_the_way: list[Handed] = []

        def hand_over(messages: Sequence[Message]) -> list[Handed]:
            handed = [Handed(message, Future()) for message in messages]
            on_the_way.extend(handed)
            return handed

        async def produce(messages: Sequence[Message]) -> None:
            await asyncio.sleep(0.003)  # meanwhile the next run is processed
            handed = [on_the_way.pop(0) for _ in range(len(on_the_way))]
            if outcomes and outcomes.pop(0):
                raise BrokerUnavailable("away")
            for _, acknowledgement in handed:
                acknowledgement.set_result(None)
            sent = [*(message for message, _ in handed), *messages]
            lists.extend(LISTS.decode(m.value or b"") for m in sent if m.topic == "session-candidates")
            changelog.write(Effects(changelog=[m for m in sent if m.topic == "user-states"]))

        async with worker(changelog) as stage:
            delivery = Delivery(
                stage, produce, Backoff(first=0.001, most=0.001), hand_over=hand_over if early else None
            )
            begun = [await delivery.begin(run) for run in runs(records, lengths) if run]
            await asyncio.gather(*begun)
        last = {made.user_id: made.event_id for made in lists}
        return await changelog.states(), {made.event_id for made in lists}, last

    assert asyncio.run(delivered(lengths, away)) == asyncio.run(delivered([], []))
