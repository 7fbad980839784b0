"""Watches a worker from a thread of its own: do its offsets move while records wait, and does its store answer?"""

import logging
import time
from collections.abc import Callable, Iterable
from threading import Event, Thread
from typing import Any

import faust

from monitoring import metrics
from monitoring.health import Health, Stall
from schemas.errors import Unavailable
from topology.offsets import GroupPositions
from topology.settings import Settings

log = logging.getLogger(__name__)

GROUP, STORE = "consumer group", "store"
"""What a worker waits for."""
# Whatever of this moves is life: a worker whose store or LLM is away is not mended by a restart.
_SIGNS = (metrics.CONSUMED, metrics.RETRIES, metrics.LLM_CALLS)
_LOOKS = 6
_MOST_S = 5.0


class VitalSigns:
    """Sees from outside, as any other client, whether the worker's group moves in its partitions.

    So it notices a consumer that fetches nothing more, as well as a stage or an event loop that hangs. It is stalled
    when records wait, no offset was committed and nothing was tried again for `settings.stall_s`. While the broker does
    not answer, or the LLM is not to be asked, there is nothing to say.
    """

    def __init__(
        self, settings: Settings, app: faust.App, health: Health, reach_store: Callable[[], None] | None = None
    ) -> None:
        """Watch the worker of `app`; `reach_store` raises Unavailable while its store does not answer."""
        self._settings = settings
        self._app = app
        self._health = health
        self._reach_store = reach_store
        self._stall = Stall(settings.stall_s)
        self._assigned: frozenset[tuple[str, int]] = frozenset()
        self._positions: dict[str, GroupPositions] = {}
        self._stop = Event()
        self._thread = Thread(target=self._run, name="vital signs", daemon=True)
        signals: Any = app
        signals.on_rebalance_complete.connect(self._reading, weak=False)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join(_MOST_S)

    async def _reading(self, app: faust.App, **_: Any) -> None:
        self._assigned = frozenset((tp.topic, tp.partition) for tp in app.consumer.assignment())
        self._health.set_ready(GROUP)

    def _run(self) -> None:
        every_s = min(self._settings.stall_s / _LOOKS, _MOST_S)
        while not self._stop.wait(every_s):
            try:
                self._look()
            except Unavailable as error:
                log.warning("can't tell whether this worker stalls: %s", error)
            except Exception:
                log.exception("can't tell whether this worker stalls")
            if self._reach_store is not None:
                self._ask_store(self._reach_store)
        for positions in self._positions.values():
            positions.close()

    def _look(self) -> None:
        assigned = self._assigned
        lag, committed = 0, list[tuple[str, int, int | None]]()
        for topic in sorted({topic for topic, _ in assigned}):
            if topic not in self._positions:
                self._positions[topic] = GroupPositions(self._settings, self._app.conf.id, topic)
            partitions = [partition for named, partition in assigned if named == topic]
            for partition, position in sorted(self._positions[topic].look(partitions).items()):
                lag += position.lag
                committed.append((topic, partition, position.committed))
        paused = total([metrics.LLM_PAUSED_UNTIL]) > time.time()
        marks = (tuple(committed), total(_SIGNS))
        stalled = self._stall.seen(waiting=lag > 0 and not paused, marks=marks, now_s=time.monotonic())
        if stalled and self._health.alive:
            log.error("%d records wait and no offset moved for %.0f s", lag, self._settings.stall_s)
        self._health.alive = not stalled

    def _ask_store(self, reach: Callable[[], None]) -> None:
        try:
            reach()
        except Unavailable as error:
            log.warning("the store does not answer: %s", error)
            self._health.set_ready(STORE, False)
        else:
            self._health.set_ready(STORE)


def total(families: Iterable[Any]) -> float:
    """Sum all samples of counters and gauges of this process."""
    return sum(
        sample.value
        for metric in families
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    )
