"""The consuming piece of every role: a run of records in, effects confirmed, and only then the acknowledgement."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring import metrics
from schemas.errors import BrokerUnavailable, ConfigurationError, InvalidRecord, Unavailable
from streams.clock import now_ms
from streams.early import Early, HandOver
from streams.record import Effects, Handed, Message, Record
from streams.stage import Stage
from streams.tracing import Tracing

log = logging.getLogger(__name__)

Produce = Callable[[Sequence[Message]], Awaitable[None]]
"""Returns when the broker has acknowledged every message, those that were handed over before too; raises
BrokerUnavailable otherwise."""

TRANSIENT = (Unavailable, OSError)
_KEPT_BYTES = 100_000


@dataclass(frozen=True)
class Backoff:
    """Seconds between tries, doubling from `first` to `most`; `tries` before a failing run is taken apart."""

    first: float = 0.1
    most: float = 5.0  # what comes back is waited for no longer than that
    tries: int = 3

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return min(self.first * 2 ** min(failures - 1, 30), self.most)


class Delivery:
    """Takes runs of raw records through a stage so that none is lost.

    Contract, for each run:

    1. `Stage.run` decodes every record; what can't be decoded is refused, never raised.
    2. Its effects are produced and acknowledged by the broker: messages and dead letters first, then the changelog.
    3. The stage's memory changes (`Effects.confirm`), and the call returns: the caller may commit the run's offsets.

    A transient failure (broker, store or LLM away, I/O) is tried again for as long as it lasts, with back-off: the
    partition waits and nothing is dropped. Any other exception is tried `Backoff.tries` times; then the run is halved
    until the records that fail alone are found; those become dead letters of kind "failed" and the rest flows on. Only
    a cancellation, or a ConfigurationError (no record is to blame), leaves a run unfinished and is raised; then its
    offsets must not be committed. A record that is too large for a dead letter is kept cut. Effects are idempotent, so
    records that are delivered again after a crash change nothing.
    """

    def __init__(
        self,
        stage: Stage[Any],
        produce: Produce,
        backoff: Backoff | None = None,
        tracing: Tracing | None = None,
        hand_over: HandOver | None = None,
    ) -> None:
        """`hand_over` sends what a stage makes early; without it, that waits for the rest of its run."""
        self._stage = stage
        self._produce = produce
        self._hand_over = hand_over
        self._backoff = backoff or Backoff()
        self._tracing = tracing or Tracing()
        self._last: asyncio.Future[None] | None = None
        self._first_try: asyncio.Future[Effects] | None = None  # of the last run
        self._durable: Effects | None = None

    async def begin(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """Begin to deliver `records` behind those before; the future that is returned ends as `deliver` does.

        Returns when this one is processed and the one before is durable. So the effects of a run wait for the broker
        while the next one is processed, unless that needs them to be durable; no two runs' effects are under way at
        once, and they become durable in order. After a failure, which is raised here too, nothing more can begin.
        """
        behind = await self._behind()
        taken_s = self._take(records)
        effects = asyncio.ensure_future(self._stage.run(records, self._early(records, behind)))
        try:
            await asyncio.wait([effects])
            if self._last is not None:
                await self._last
            if behind is not None and behind is not self._durable:
                # The run before was tried again, and came to something else: what was built on it does not stand.
                effects = asyncio.ensure_future(self._stage.run(records))
                await asyncio.wait([effects])
        except BaseException:
            effects.cancel()
            raise
        self._last, self._first_try = asyncio.ensure_future(self._whole(records, effects, taken_s)), effects
        return self._last

    async def _behind(self) -> Effects | None:
        """Return the effects on which the next run is to be built, when all is durable that it needs to be."""
        if self._last is None or self._stage.needs_of_last == "nothing":
            return None
        if self._stage.needs_of_last == "effects" and self._first_try is not None and not self._last.done():
            if self._first_try.exception() is None:
                return self._first_try.result()
        await self._last
        return None

    def _early(self, records: Sequence[Record], behind: Effects | None) -> Early | None:
        if self._stage.needs_of_last != "effects":
            return None
        hand_over = self._hand_over
        return Early(
            behind,
            lambda: self._durable is behind,
            hand_over and (lambda messages: hand_over(self._tracing.carried(messages, records))),
        )

    def cancel(self) -> None:
        """Leave what has begun unfinished; its offsets must not be committed."""
        if self._last is not None:
            self._last.cancel()

    async def deliver(self, records: Sequence[Record]) -> None:
        """Return when every effect of `records` (one topic, oldest first, not empty) is durable."""
        await self._whole(records, None, self._take(records))

    def _take(self, records: Sequence[Record]) -> float:
        """Note how long the records have waited; return when that was, in seconds of the performance counter."""
        times_ms = [record.timestamp_ms for record in records]
        metrics.QUEUE_WAIT.observe_all(_seconds_since(times_ms, now_ms()), self._stage.name)
        self._tracing.begin(records)
        return time.perf_counter()

    async def _whole(self, records: Sequence[Record], effects: Awaitable[Effects] | None, taken_s: float) -> None:
        try:
            await self._deliver(records, effects)
        except BaseException as error:
            self._tracing.end(records, error)
            raise
        self._tracing.end(records)
        metrics.RUN_SECONDS.labels(self._stage.name).observe(time.perf_counter() - taken_s)

    async def _deliver(self, records: Sequence[Record], effects: Awaitable[Effects] | None = None) -> None:
        """Do so; `effects` are what the stage makes of them at the first try, where that has begun already."""
        first = [effects] if effects is not None else []
        try:
            await self._persist(lambda: first.pop() if first else self._stage.run(records), records)
        except ConfigurationError:
            raise
        except Exception as error:
            if len(records) > 1:
                middle = len(records) // 2
                await self._deliver(records[:middle])
                await self._deliver(records[middle:])
                return
            await self._give_up(records[0], InvalidRecord("failed", f"{type(error).__name__}: {error}"))

    async def _give_up(self, record: Record, error: InvalidRecord) -> None:
        try:
            await self._file(record, error)
        except ConfigurationError:
            raise
        except Exception:
            # Not even its dead letter can be produced: what is too large to be kept whole is kept cut.
            size = len(record.value or b"")
            cut = InvalidRecord(error.kind, f"only the first {_KEPT_BYTES} of {size} bytes are kept here: {error}")
            await self._file(record._replace(value=(record.value or b"")[:_KEPT_BYTES], headers=()), cut)

    async def _file(self, record: Record, error: InvalidRecord) -> None:
        refused = [(record, error)]
        letter = Effects(messages=self._stage.refuse(refused), refused=refused)
        await self._persist(lambda: _ready(letter), [record])

    async def _persist(self, effects: Callable[[], Awaitable[Effects]], records: Sequence[Record]) -> None:
        failures = 0
        while True:
            try:
                await self._apply(await effects(), records)
                break
            except Exception as error:
                failures += 1
                transient = isinstance(error, TRANSIENT)
                lasting = isinstance(error, ConfigurationError) or failures >= self._backoff.tries
                if lasting and not transient:
                    raise
                await self._wait(error, failures, records, traceback=not transient)
        metrics.CONSUMED.labels(self._stage.name, records[0].topic).inc(len(records))
        metrics.RUN_RECORDS.labels(self._stage.name).observe(len(records))

    async def _apply(self, effects: Effects, records: Sequence[Record]) -> None:
        await self._send(self._tracing.carried(effects.messages, records), effects.handed)
        await self._send(effects.changelog)
        effects.confirm()
        self._durable = effects
        for record, error in effects.refused:
            self._tracing.refused(record, error)
            metrics.DEAD_LETTERED.labels(self._stage.name, error.kind).inc()
        if self._stage.freshness is not None and effects.visible_ms:
            self._stage.freshness.observe_all(_seconds_since(effects.visible_ms, now_ms()))

    async def _send(self, messages: Sequence[Message], handed: Sequence[Handed] = ()) -> None:
        if not messages and not handed:
            return
        await self._produce(messages)
        for message, acknowledgement in handed:
            if not acknowledgement.done():
                raise BrokerUnavailable(f"the broker did not acknowledge a record of {message.topic}")
            acknowledgement.result()
        for topic, count in Counter(message.topic for message in (*messages, *(of for of, _ in handed))).items():
            metrics.PRODUCED.labels(self._stage.name, topic).inc(count)

    async def _wait(self, error: Exception, failures: int, records: Sequence[Record], *, traceback: bool) -> None:
        delay, first = self._backoff.delay(failures), records[0]
        self._tracing.tried_again(records, error)
        metrics.RETRIES.labels(self._stage.name, type(error).__name__).inc()
        log.warning(
            "%s: try %d of the run at %s/%d offset %d failed, again in %.1f s: %s: %s",
            self._stage.name, failures, first.topic, first.partition, first.offset, delay, type(error).__name__, error,
            exc_info=error if traceback else None,
        )  # fmt: skip
        await asyncio.sleep(delay)


def _seconds_since(times_ms: Sequence[int], now: int) -> NDArray[np.float64]:
    """Return the age of each time, 0 where another machine's clock is ahead."""
    return np.maximum(now - np.asarray(times_ms), 0) / 1000


async def _ready(effects: Effects) -> Effects:
    return effects
