"""The lag exporter: how far every role is behind, said by a process of its own that outlives the workers."""

import logging
import signal
import time
from collections import defaultdict
from collections.abc import Mapping
from threading import Event

from monitoring import metrics
from monitoring.health import Health
from schemas.errors import BrokerUnavailable
from topology.http_port import open_port
from topology.offsets import GroupPositions, Position
from topology.settings import ALL_ROLES, Role, Settings
from topology.topics import TOPIC_OF

log = logging.getLogger(__name__)
_BROKER = "broker"


def run_lag_exporter(settings: Settings, every_s: float) -> None:
    """Look at every role's group each `every_s` seconds until SIGTERM or SIGINT; a broker that is away is waited for.

    Raises:
        ConfigurationError: the broker refuses the settings, or the port is taken.

    """
    stop, health = Event(), Health([_BROKER])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    groups = [GroupLag(settings, role) for role in ALL_ROLES]
    server = open_port(settings, health)
    try:
        while not stop.is_set():
            started = time.monotonic()
            health.set_ready(_BROKER, all([group.update() for group in groups]))
            stop.wait(max(every_s - (time.monotonic() - started), 0.0))
    finally:
        server.close()
        for group in groups:
            group.close()


class GroupLag:
    """The metrics of one role's group. From one thread."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self._group = settings.group(role)
        self._topic = settings.topic(TOPIC_OF[role])
        self._positions = GroupPositions(settings, self._group, self._topic)
        self._counted: defaultdict[int, int] = defaultdict(int)

    def update(self) -> bool:
        """Look, and tell whether the broker answered; what was seen before stays, with its time."""
        try:
            positions = self._positions.look()
        except BrokerUnavailable as error:
            log.warning("%s", error)
            metrics.LAG_FAILURES.labels(self._group).inc()
            return False
        self._show(positions)
        metrics.LAG_AS_OF.labels(self._group).set(time.time())
        return True

    def _show(self, positions: Mapping[int, Position]) -> None:
        now = time.time()
        for partition, position in positions.items():
            labels = (self._group, self._topic, str(partition))
            waits = position.lag > 0 and position.oldest_ms is not None
            metrics.LAG_RECORDS.labels(*labels).set(position.lag)
            metrics.LAG_SECONDS.labels(*labels).set(max(now - (position.oldest_ms or 0) / 1000, 0.0) if waits else 0.0)
            metrics.COMMITTED_OFFSET.labels(*labels).set(position.next)
            metrics.END_OFFSET.labels(self._topic, str(partition)).set(position.end)
            # Of what expired, only what was not counted at an earlier look.
            since = max(self._counted[partition], position.begin - position.expired)
            metrics.EXPIRED.labels(*labels).inc(max(position.begin - since, 0))
            self._counted[partition] = max(self._counted[partition], position.begin)

    def close(self) -> None:
        """Close the connection."""
        self._positions.close()
