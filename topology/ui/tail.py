"""Following the topics from near their ends, outside of any consumer group, and how far behind each role is."""

import logging
from collections import defaultdict
from threading import Event, Thread
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from schemas.errors import BrokerUnavailable, VibestreamError
from streams.record import Record
from topology.kafka import Committed, make_consumer, partitions_of, watermarks
from topology.settings import ALL_ROLES, Role, Settings
from topology.topics import (
    ANNOTATIONS,
    DEAD_LETTERS,
    MEDIA_REQUESTS,
    REVIEW_REQUESTS,
    SESSION_CANDIDATES,
    USER_STATES,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)
from topology.ui.recent import Recent

log = logging.getLogger(__name__)

_TOPICS = {  # how many of the records that are there already are read
    VIDEO_UPLOADS: 5_000,
    ANNOTATIONS: 10_000,
    REVIEW_REQUESTS: 1_000,
    MEDIA_REQUESTS: 1_000,
    WATCH_EVENTS: 5_000,
    SESSION_CANDIDATES: 1_000,
    USER_STATES: 2_000,
    DEAD_LETTERS: 1_000,
}
_READS: dict[Role, str] = {
    "annotate": VIDEO_UPLOADS,
    "review": REVIEW_REQUESTS,
    "media": MEDIA_REQUESTS,
    "store": ANNOTATIONS,
    "session": WATCH_EVENTS,
}
_TIMEOUT_S = 10.0
_LAG_EVERY_S = 2.0


class Tail:
    """Feeds a `Recent`; two threads of its own.

    `lags` are records that a role has not committed yet, None while the broker does not say. The end of a topic is what
    was read of it, which is right on brokers whose end offsets are not.
    """

    def __init__(self, settings: Settings, recent: Recent) -> None:
        """Connect.

        Raises:
            BrokerUnavailable: the broker does not answer, or a topic is not there.

        """
        self._settings = settings
        self._recent = recent
        self.lags: dict[Role, int | None] = dict.fromkeys(ALL_ROLES)
        self.trouble: str | None = None
        self._ends: dict[str, dict[int, int]] = defaultdict(dict)
        self._stopping = Event()
        self._names = {settings.topic(name): name for name in _TOPICS}
        self._consumer = make_consumer(settings, f"{settings.topic_prefix}vibestream-ui")
        try:
            self._from = [tp for name, many in _TOPICS.items() for tp in self._near_end(name, many)]
        except KafkaException as error:
            self._consumer.close()
            raise BrokerUnavailable(f"{settings.broker}: {error.args[0].str()}") from error
        self._threads = [
            Thread(target=self._follow, name="tail", daemon=True),
            Thread(target=self._measure, name="lag", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_S)

    def _near_end(self, name: str, many: int) -> list[TopicPartition]:
        topic = self._settings.topic(name)
        partitions = partitions_of(self._consumer, self._settings, topic)
        starts: list[TopicPartition] = []
        for partition in partitions:
            low, high = watermarks(self._consumer, TopicPartition(topic, partition))
            starts.append(TopicPartition(topic, partition, max(low, high - many // len(partitions))))
            self._ends[name][partition] = high
        return starts

    def _follow(self) -> None:
        self._consumer.assign(self._from)
        while not self._stopping.is_set():
            found: dict[str, list[Record]] = defaultdict(list)
            for message in self._consumer.consume(2_000, timeout=0.1):
                error = message.error()
                if error is not None:
                    self.trouble = error.str()
                    continue
                self.trouble = None
                topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
                name, headers, stamp = self._names[topic], (), message.timestamp()[1]
                found[name].append(Record(topic, partition, offset, stamp, message.key(), message.value(), headers))
                ends = self._ends[name]
                ends[partition] = max(ends[partition], offset + 1)
            for name, records in found.items():
                self._recent.add(name, records)
        self._consumer.close()

    def _measure(self) -> None:
        committed: dict[Role, Any] = {}
        while not self._stopping.wait(_LAG_EVERY_S if committed else 0.1):
            for role, name in _READS.items():
                try:
                    if role not in committed:
                        committed[role] = Committed(self._settings, role, name)
                    done = committed[role].count()
                    self.lags[role] = max(sum(self._ends[name].values()) - done, 0)
                except VibestreamError as error:
                    self.lags[role] = None
                    log.warning("lag of %s: %s", role, error)
        for one in committed.values():
            one.close()
