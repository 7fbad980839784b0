"""Runs of records through Faust: one fetch of one partition is one message, and commits follow the stage's word alone.

Faust pays tens of microseconds of queueing and awaits per message, and it acknowledges whatever leaves an agent's loop,
also by an exception or a cancellation. Here a whole run travels as one message, and its offsets are committed only when
its `Run.done` was set, in the order in which the runs were fetched. Faust's own acknowledgements count for nothing.
"""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message

RawRecord = ConsumerRecord[bytes | None, bytes | None]


@dataclass(eq=False)
class Run:
    """Records of one partition with ascending offsets; set `done` when all their effects are durable."""

    records: Sequence[RawRecord]
    done: bool = False


# Faust asks for 1,500 ms, and some brokers let a fetch wait so long even when a record comes in.
_FETCH_WAIT_MS = 20


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer: Any = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS  # noqa: SLF001 - Faust has no setting for it
        return consumer


class RunConsumer(driver.Consumer):
    """Hands over runs and commits the offset after the last run of an unbroken sequence of done ones, per partition."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pending: defaultdict[TP, deque[Run]] = defaultdict(deque)

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Yield the fetched runs, one message each."""
        fetched, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if fetched is None or self.should_stop:
            return
        if not self.flow_active:
            # A partition may be revoked while we ask for its committed offset; the rebalance that follows seeks again.
            try:
                await self.perform_seek()
            except Exception as error:
                self.log.warning("could not seek to the committed offsets: %r", error)
            return
        for tp, records in fetched.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            if records and (active is None or tp in active or tp in self._buffered_partitions):
                yield tp, self._message(tp, Run(records))

    def _message(self, tp: TP, run: Run) -> Message:
        message: Any = self._to_message(tp, run.records[-1])
        message.key, message.value = None, run
        pending = self._pending[tp]
        if pending and run.records[0].offset <= pending[-1].records[-1].offset:
            pending.clear()  # fetched again after a seek: what was handed over before will never be done
        pending.append(run)
        return message

    @property
    def queued(self) -> int:
        """Runs handed over and not yet done."""
        return sum(not run.done for pending in self._pending.values() for run in pending)

    async def perform_seek(self) -> None:
        """Go back to the committed offsets; runs handed over before count for nothing."""
        self._pending.clear()
        await super().perform_seek()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the runs of partitions that are no longer ours."""
        for tp in revoked:
            self._pending.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    def ack(self, message: Message) -> bool:
        """Let Faust drop the message; committing is not its business."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def _filter_tps_with_pending_acks(self, topics: Iterable[Any] | None = None) -> Iterator[TP]:
        for tp, pending in list(self._pending.items()):
            if pending and pending[0].done and (topics is None or tp in topics or tp.topic in topics):
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        pending, newest = self._pending[tp], None
        while pending and pending[0].done:
            newest = pending.popleft().records[-1].offset
        return None if newest is None else newest + 1

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets between the ends of two runs lie inside the later run."""


class RunTransport(driver.Transport):
    """aiokafka as Faust drives it, with runs."""

    Consumer = RunConsumer
