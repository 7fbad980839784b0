"""The session stage: watches in, candidate lists out."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import merge
from random import Random
from typing import NamedTuple, ParamSpec, TypeVar

from msgspec.structs import replace as changed

from models.satisfaction import Satisfaction, satisfaction
from monitoring import metrics
from schemas.annotation import Annotation
from schemas.candidates import Fallback, Lane, SessionCandidates
from schemas.errors import InvalidRecord
from schemas.events import WatchEvent
from schemas.requests import CandidateList, CandidatesRequest
from schemas.user_state import UserState, encode_state
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.crowd import Crowd
from streams.early import Send
from streams.learning import CrowdLearner, Noted
from streams.record import Effects, Message, Record
from streams.retrieve import RetrievalSettings, retrieve, retrieve_all
from streams.seen import SeenRows
from streams.serving import LatestLists, plan
from streams.stage import Item, Stage, record_key
from streams.user_states import UserStates
from streams.videos import Videos, VideoView
from streams.watch import apply

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

WATCHES_PER_LIST = 3


def list_is_due(before: UserState | None, after: UserState) -> bool:
    """Tell whether the watch between two states of a user calls for a list."""
    first = before is None or before.session_id != after.session_id
    return first or after.watches_since_list >= WATCHES_PER_LIST


class _Due(NamedTuple):
    """A user who gets a list, and for what; `received_ms` is when the broker received it."""

    partition: int
    received_ms: int
    state: UserState
    event: WatchEvent


def _by_wait(due: Iterable[_Due]) -> list[_Due]:
    """Return those who have waited longest first; of one partition, and so of one session, in their order."""
    by_partition: defaultdict[int, list[_Due]] = defaultdict(list)
    for one in due:
        by_partition[one.partition].append(one)
    return list(merge(*by_partition.values(), key=lambda one: one.received_ms))


@dataclass
class _Run:
    """What a run would change, until it is confirmed; of its lists (by number in `due`) what is sent and counted.

    `terms` are those of its partitions: what it would change is void where another has begun.
    """

    terms: dict[int, str]
    states: dict[tuple[int, str], UserState] = field(default_factory=dict[tuple[int, str], UserState])
    due: list[_Due] = field(default_factory=list[_Due])
    noted: Noted = field(default_factory=Noted)
    lists: dict[int, bytes] = field(default_factory=dict[int, bytes])
    fallbacks: Counter[Fallback] = field(default_factory=Counter[Fallback])
    removed: Counter[str] = field(default_factory=Counter[str])
    lanes: Counter[tuple[Lane, bool]] = field(default_factory=Counter[tuple[Lane, bool]])

    def add(self, number: int, made: SessionCandidates) -> None:
        """Keep a list."""
        self.lists[number] = encode(made)
        self.fallbacks[made.fallback] += 1
        self.removed.update(made.removed)
        self.lanes.update([(candidate.lane, candidate.uncertain) for candidate in made.candidates])


class SessionStage(Stage[WatchEvent]):
    """Emits a list on a session's first event and on every third watch after it.

    An event is applied once: what was applied before, by its offset, has no effect. The videos, and all work on them,
    live in one thread. So does the crowd: what the watches seen here say of videos, of which a list is made too.
    """

    name = "session"
    needs_of_last = "effects"
    freshness = metrics.WATCH_TO_CANDIDATES

    def __init__(
        self,
        videos: Videos,
        states: UserStates,
        *,
        candidates: str,
        user_states: str,
        dead_letters: str,
        settings: RetrievalSettings | None = None,
        satisfaction: Satisfaction = satisfaction,
        latest: LatestLists | None = None,
    ) -> None:
        """`candidates`, `user_states` (the changelog) and `dead_letters` are topics; `videos` are the stage's own."""
        super().__init__(dead_letters)
        self._videos = videos
        self._states = states
        self._candidates = candidates
        self._changelog = user_states
        self._settings = settings or RetrievalSettings()
        self._satisfaction = satisfaction
        self._crowd = Crowd(self._settings.crowd)
        self._seen = SeenRows(videos)
        self._learner = CrowdLearner(self._crowd, videos, self._seen, self._settings.crowd.warm_watches)
        self._watches = Decoder(WatchEvent)
        # Compiled now: a worker must not stop for it at an event.
        retrieve(videos, None, self._settings, now_ms(), Random(0), self._crowd)
        self.latest = latest or LatestLists(1_000)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="session")

    async def follow(self, annotations: Sequence[Annotation]) -> None:
        """Take over annotations."""
        await self._in_thread(self._videos.apply, annotations)

    def answer(self, request: CandidatesRequest, partition: int | None) -> Future[CandidateList]:
        """Make a list for a request, in the stage's thread; `partition` is where its user's events lie.

        The future raises InvalidRecord for what can't be asked, and BrokerUnavailable while the partition's states are
        not here.
        """
        return self._executor.submit(self._answer, request, partition)

    def _answer(self, request: CandidatesRequest, partition: int | None) -> CandidateList:
        now, user_id = now_ms(), request.user_id
        state = None if partition is None or user_id is None else self._states.get(partition, user_id)
        planned = plan(request, state, self._settings, self._videos.catalogue, now)
        made = retrieve(self._videos, planned.state, planned.settings, now, planned.rng, self._crowd)
        return CandidateList(
            schema_version=1,
            made_at_ms=now,
            candidates=made.candidates,
            quotas=made.quotas,
            removed=made.removed,
            fallback=made.fallback,
            user_id=user_id,
        )

    async def close(self) -> None:
        """End the stage's thread after the work in it."""
        await asyncio.to_thread(self._executor.shutdown)

    def decode(self, record: Record) -> WatchEvent:
        """Return the watch; its time is at most the broker's, so that a fast clock can't age all that came before."""
        user_id = record_key(record)
        if record.value is None:
            raise InvalidRecord("impossible", "a watch event has a value")
        event = self._watches.decode(record.value)
        if event.user_id != user_id:
            raise InvalidRecord("impossible", f"key {user_id!r}, but the event is of user {event.user_id!r}")
        if 0 < record.timestamp_ms < event.watched_at_ms:
            return changed(event, watched_at_ms=record.timestamp_ms)
        return event

    async def process(self, items: Sequence[Item[WatchEvent]]) -> Effects:
        """Apply the watches to their users' states and make the lists that are due."""
        lists: list[Message] = []
        return replace(await self.process_behind(items, None, lists.append), messages=lists)

    async def process_behind(self, items: Sequence[Item[WatchEvent]], last: Effects | None, send: Send) -> Effects:
        """Do so on top of the states that the run before will leave, and send each list when it is made."""
        before = last.changes if last is not None and isinstance(last.changes, _Run) else None
        await asyncio.gather(*(self._states.ensure(number) for number in {item.record.partition for item in items}))
        return await self._in_thread(self._process, items, before, send)

    def _process(self, items: Sequence[Item[WatchEvent]], last: _Run | None, send: Send) -> Effects:
        numbers = self._videos.shed(self._crowd.rows)
        if numbers is not None:
            self._crowd.renumber(numbers)
            self._seen.clear()
        run = _Run({number: self._states.term(number) for number in {record.partition for record, _ in items}})
        if last is not None:
            run.noted.users_before = last.noted.users
        views = self._videos.views([event.video_id for _, event in items])
        for (record, event), video in zip(items, views, strict=True):
            self._watch(run, last, record, event, video)
        run.due = _by_wait(run.due)
        for number, made in self._lists(run.due, max([now_ms(), *(record.timestamp_ms for record, _ in items)])):
            run.add(number, made)
            send(Message(self._candidates, made.session_id.encode(), run.lists[number], cause=made.user_id.encode()))
        values = {at: encode_state(state) for at, state in run.states.items()}
        return Effects(
            changelog=[
                Message(self._changelog, key, value, partition=number)
                for (number, user_id), state in values.items()
                for key, value in self._states.changes(number, user_id, state)
            ],
            visible_ms=[due.received_ms for due in run.due],
            confirm=partial(self._confirm, run, values),
            changes=run,
        )

    def _watch(self, run: _Run, last: _Run | None, record: Record, event: WatchEvent, video: VideoView | None) -> None:
        at = (record.partition, event.user_id)
        before = run.states.get(at)
        if before is None and last is not None and last.terms.get(record.partition) == run.terms[record.partition]:
            before = last.states.get(at)
        before = before or self._states.get(*at)
        after = apply(before, event, record.offset, video, self._satisfaction)
        if after is before:
            return
        if list_is_due(before, after):
            after = changed(after, watches_since_list=0)
            run.due.append(_Due(record.partition, record.timestamp_ms, after, event))
        run.states[at] = after
        self._learner.note(run.noted, at, before, event, self._satisfaction(event))

    def _lists(self, due: Sequence[_Due], now: int) -> Iterator[tuple[int, SessionCandidates]]:
        # Seeded by the event: a run that is tried again makes the same list.
        users = [(state, Random(f"{event.session_id}/{event.event_id}")) for _, _, state, event in due]
        for number, retrieved in retrieve_all(self._videos, users, self._settings, now, self._crowd, self._seen):
            _, _, state, event = due[number]
            made = SessionCandidates(
                schema_version=1,
                session_id=event.session_id,
                user_id=event.user_id,
                event_id=event.event_id,
                emitted_at_ms=now_ms(),
                candidates=retrieved.candidates,
                quotas=retrieved.quotas,
                removed=retrieved.removed,
                fallback=retrieved.fallback,
                labeler=state.labeler,
            )
            yield number, made

    def _confirm(self, run: _Run, values: dict[tuple[int, str], bytes]) -> None:
        for (number, user_id), value in values.items():
            self._states.put(number, user_id, run.states[number, user_id].applied, value)
        self._learner.confirm(run.noted)
        self._executor.submit(self._learn)
        for number, due in enumerate(run.due):
            self.latest.put(due.event.session_id, run.lists[number], due.partition)
        for fallback, count in run.fallbacks.items():
            metrics.CANDIDATE_LISTS.labels(fallback).inc(count)
        for reason, count in run.removed.items():
            metrics.CANDIDATES_REMOVED.labels(reason).inc(count)
        for (lane, uncertain), count in run.lanes.items():
            metrics.CANDIDATES.labels(lane, "uncertain" if uncertain else "certain").inc(count)

    def _learn(self) -> None:
        try:
            self._learner.learn()
        except Exception:
            log.exception("session: the crowd did not learn a run")

    async def _in_thread(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(work, *args, **kwargs))
