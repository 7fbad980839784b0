"""Runs of records through Faust: one fetch is one message, and commits follow the stage's word alone.

Faust pays tens of microseconds of queueing and awaits per message, and it acknowledges whatever leaves an agent's loop,
also by an exception or a cancellation. Here all records of a fetch travel as one message, and their offsets are
committed only when `Run.done` was set, in the order in which they were fetched. Faust's own acknowledgements count for
nothing. A slow stage finds more records in its next fetch, so its batches grow with the load.

Around a rebalance, fetches that were under way when the position was set back still arrive, and others are dropped when
the position has moved on. So every partition's records are held against the offset that is due next: what comes early
is asked for again from there, and what comes twice is left out.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message

RawRecord = ConsumerRecord[bytes | None, bytes | None]

# Faust asks for 1,500 ms, and some brokers let a fetch wait so long even when a record comes in.
_FETCH_WAIT_MS = 20
_LOOK_S = 0.5
_GATHER_S = 0.01


@dataclass(eq=False)
class Run:
    """Records of one fetch, offsets ascending per partition.

    Set `processed` when their effects are known, and `done` when all of these are durable.
    """

    records: Sequence[RawRecord]
    processed: bool = False
    done: bool = False


class _Part(NamedTuple):
    """What a run has of one partition."""

    run: Run
    last: int


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    late = False
    """Whether the stage was waited for, and what was fetched meanwhile has waited too."""

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer: Any = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS  # noqa: SLF001 - Faust has no setting for it
        return consumer

    async def _fetch_records(self, consumer: Any, *args: Any, **kwargs: Any) -> Mapping[TP, list[Any]]:
        """Let partitions take turns: aiokafka empties what it fetched of one, a megabyte, before it looks at others.

        A session worker with a backlog would keep the users of the other partitions waiting for a minute.
        """
        records = await super()._fetch_records(consumer, *args, **kwargs)
        if records and self.late:
            records = await self._with_what_came_since(records, consumer, *args, **kwargs)
        waiting = consumer._fetcher._records  # noqa: SLF001 - in the order in which it takes them
        for tp in records:
            rest = waiting.pop(tp, None)
            if rest is not None:
                waiting[tp] = rest
        return records

    async def _with_what_came_since(
        self, records: Mapping[TP, list[Any]], consumer: Any, *args: Any, max_records: int, **kwargs: Any
    ) -> Mapping[TP, list[Any]]:
        """Fetch once more: aiokafka asks for nothing while it holds the first few records that came."""
        room = max_records - sum(map(len, records.values()))
        if room < 1:
            return records
        more = await super()._fetch_records(consumer, *args, max_records=room, **kwargs | {"timeout": _GATHER_S})
        return {tp: [*records.get(tp, ()), *more.get(tp, ())] for tp in {**records, **more}}

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Don't guess from inside whether a partition stalls: a run reports only one of its partitions to Faust."""


class RunConsumer(driver.Consumer):
    """Hands over runs; commits, per partition, the offset after the last of an unbroken sequence of done ones."""

    def __init__(self, *args: Any, run_interval_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._interval_s = run_interval_s
        self._pending: defaultdict[TP, deque[_Part]] = defaultdict(deque)
        self._due: dict[TP, int] = {}
        self._asked_again: dict[TP, int] = {}
        self._draining = False
        self._last_was_full = False
        self._fetched_at = -inf
        self._processed = asyncio.Event()

    def _new_consumer_thread(self) -> _ConsumerThread:
        self._fetching = _ConsumerThread(self, loop=self.loop, beacon=self.beacon)
        return self._fetching

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Yield what was fetched as one message."""
        if self._draining:
            await self.sleep(timeout)
            return
        self._fetching.late = await self._until_wanted()
        fetched, active = await self._wait_next_records(timeout)
        if fetched is None or self.should_stop or self._draining:
            return
        if not self.flow_active:
            # A partition may be revoked while we ask for its committed offset; the rebalance that follows seeks again.
            try:
                await self.perform_seek()
            except Exception as error:
                self.log.warning("could not seek to the committed offsets: %r", error)
            return
        parts: dict[TP, Sequence[RawRecord]] = {}
        for tp, records in fetched.items():
            if records and (active is None or tp in active):
                due = await self._from_due(tp, records)
                if due:
                    parts[tp] = due
        if parts and self.flow_active:
            yield self._message(parts)

    async def _until_wanted(self) -> bool:
        """While the stage keeps up, fetch only once it has processed the rest; return whether that was waited for.

        What lies here meanwhile grows old, and can't grow. Nor is the next run due before the interval is over: what a
        run costs by itself is paid for more records then.

        A run that was as large as it may be says that more is waiting in the broker; then there is always one at hand.
        """
        waited = False
        while self._unprocessed() and not (
            self._last_was_full or not self.flow_active or self.should_stop or self._draining
        ):
            waited = True
            self._processed.clear()
            waiting = asyncio.ensure_future(self._processed.wait())
            await asyncio.wait([waiting], timeout=_LOOK_S)
            waiting.cancel()
        early_s = self._fetched_at + self._interval_s - self.loop.time()
        if early_s > 0 and not self._last_was_full:
            waited = True
            await self.sleep(early_s)
        self._fetched_at = self.loop.time()
        return waited

    def processed(self, run: Run) -> None:
        """Note that the effects of a run are known: the next may be fetched while they are made durable."""
        run.processed = True
        self._processed.set()

    def finish(self, run: Run) -> None:
        """Note that all effects of a run are durable."""
        run.done = True

    async def _from_due(self, tp: TP, records: Sequence[RawRecord]) -> Sequence[RawRecord]:
        """Return the records from the due offset on; none, and ask again, if the first is past it."""
        due = self._due.get(tp)
        if due is None:
            return ()  # no position was set since it was assigned: a fetch from before
        if records[0].offset > due and self._asked_again.get(tp) != due:
            # Either records are missing or there are none at these offsets (compacted, aborted): the next fetch tells.
            self._asked_again[tp] = due
            await self.seek(tp, due)
            return ()
        return [record for record in records if record.offset >= due]

    def _message(self, fetched: Mapping[TP, Sequence[RawRecord]]) -> tuple[TP, Message]:
        run = Run([record for records in fetched.values() for record in records])
        self._last_was_full = len(run.records) >= self.app.conf.broker_max_poll_records
        for tp, records in fetched.items():
            last = records[-1].offset
            self._pending[tp].append(_Part(run, last))
            self._due[tp] = last + 1
        tp = next(iter(fetched))
        message: Any = self._to_message(tp, fetched[tp][-1])
        message.key, message.value = None, run
        return tp, message

    @property
    def queued(self) -> int:
        """Runs handed over and not yet done."""
        return len({id(part.run) for pending in self._pending.values() for part in pending if not part.run.done})

    def _unprocessed(self) -> bool:
        return any(not part.run.processed for pending in self._pending.values() for part in pending)

    async def drain(self, within_s: float) -> None:
        """Hand over nothing more, and return when all that was handed over is done, or after `within_s` seconds."""
        self._draining = True
        deadline = self.loop.time() + within_s
        while self.queued and self.loop.time() < deadline:
            await self.sleep(0.02)

    async def perform_seek(self) -> None:
        """Go back to the committed offsets, or to the beginning; runs handed over before count for nothing."""
        self._forget(list(self._due))
        committed = await self.seek_to_committed()
        for tp, offset in committed.items():
            start = max(offset or 0, 0)
            if not start:
                await self.seek(tp, 0)  # seek_to_committed leaves a partition without a commit where it was
            self._read_offset[tp] = start or None
            self._committed_offset[tp] = start or None
            self._due[tp] = start

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the runs of partitions that are no longer ours."""
        self._forget(revoked)
        await super().on_partitions_revoked(revoked)

    def _forget(self, partitions: Iterable[TP]) -> None:
        for tp in partitions:
            self._pending.pop(tp, None)
            self._due.pop(tp, None)
            self._asked_again.pop(tp, None)
        self._processed.set()

    def on_buffer_full(self, tp: TP) -> None:
        """Let the full queue hold back the fetcher.

        Faust would leave the partition out of its fetches, and a fetch without it that finds nothing waits a second.
        """

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing was paused."""

    def ack(self, message: Message) -> bool:
        """Let Faust drop the message; committing is not its business."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def _filter_tps_with_pending_acks(self, topics: Iterable[Any] | None = None) -> Iterator[TP]:
        for tp, pending in list(self._pending.items()):
            if pending and pending[0].run.done and (topics is None or tp in topics or tp.topic in topics):
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        pending, newest = self._pending[tp], None
        while pending and pending[0].run.done:
            newest = pending.popleft().last
        return None if newest is None else newest + 1

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets between the ends of two runs lie inside the later run."""


class RunTransport(driver.Transport):
    """aiokafka as Faust drives it, with runs: from one fetch to the next it is `run_interval_s` or more."""

    Consumer = RunConsumer

    def __init__(self, *args: Any, run_interval_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._interval_s = run_interval_s

    def create_consumer(self, callback: Any, **kwargs: Any) -> Any:
        """Make what hands over runs."""
        return super().create_consumer(callback, run_interval_s=self._interval_s, **kwargs)
