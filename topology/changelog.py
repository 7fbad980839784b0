"""Reading a changelog partition to its true end."""

from collections.abc import Generator, Sequence
from typing import Protocol
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from schemas.errors import BrokerUnavailable
from streams.record import Message
from topology.kafka import make_consumer, partitions_of
from topology.settings import Settings

# Not a key that any record has: ids have no control characters in front, and compaction keeps one marker a partition.
_MARKER_KEY = b"\0end"
_QUIET_S = 30.0
_BATCH = 500  # states, of which one may take 10 kB


class _Produces(Protocol):
    def produce_now(self, messages: Sequence[Message]) -> None: ...


class Changelog:
    """Recovers partitions of a compacted topic.

    The end is not asked of the broker, whose answer may be stale: a marker of our own is produced to the partition and
    read back, so every record that was acknowledged before is before it.
    """

    def __init__(self, settings: Settings, topic: str, producer: _Produces) -> None:
        self._settings = settings
        self._topic = topic
        self._producer = producer

    def read(self, partition: int) -> Generator[tuple[bytes, bytes | None]]:
        """Yield (key, value) of the partition's records, oldest first. Blocks, from the first one on.

        Raises:
            BrokerUnavailable: the broker fell silent before the marker came back.

        """
        marker = uuid4().bytes
        self._producer.produce_now([Message(self._topic, _MARKER_KEY, marker, partition=partition)])
        consumer = make_consumer(self._settings, f"{self._topic}-recovery")
        try:
            partitions_of(consumer, self._settings, self._topic)  # without it, librdkafka waits half a second to assign
            consumer.assign([TopicPartition(self._topic, partition, OFFSET_BEGINNING)])
            while True:
                batch = consumer.consume(_BATCH, timeout=0.1) or consumer.consume(1, timeout=_QUIET_S)
                if not batch:
                    raise BrokerUnavailable(f"{self._topic}/{partition} was silent for {_QUIET_S:.0f} s while read")
                for message in batch:
                    error = message.error()
                    if error is not None:
                        raise BrokerUnavailable(f"{self._topic}/{partition}: {error.str()}")
                    key, value = message.key(), message.value()
                    if key != _MARKER_KEY:
                        yield key or b"", value
                    elif value == marker:
                        return
        finally:
            consumer.close()
