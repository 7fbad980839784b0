"""Where a consumer group stands in a topic, seen from outside: whoever reads may be stalled or dead."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from schemas.errors import BrokerUnavailable
from topology.kafka import committed_offsets, make_consumer, partitions_of
from topology.settings import Settings

_TIMEOUT_S = 10.0


class Position(NamedTuple):
    """A group in a partition: `committed` is the next offset that it will read, None before its first commit.

    Offsets `begin` to `end` - 1 are there. `oldest_ms` is the broker's timestamp of the first record that is not
    committed, None if there is none.
    """

    begin: int
    committed: int | None
    end: int
    oldest_ms: int | None

    @property
    def next(self) -> int:
        """The offset that the group goes on at."""
        return self.begin if self.committed is None else max(self.committed, self.begin)

    @property
    def lag(self) -> int:
        """Records that are not committed."""
        return max(self.end - self.next, 0)

    @property
    def expired(self) -> int:
        """Records that were deleted before the group had read them; unknown before its first commit."""
        return 0 if self.committed is None else max(self.begin - self.committed, 0)


class GroupPositions:
    """Looks at one group in one topic; never joins the group. From one thread.

    A look is one fetch per partition at the committed offset: its first record tells how long the oldest has waited,
    and its high watermark where the partition ends. A broker's list of offsets tells neither, and some put the end too
    low.
    """

    def __init__(self, settings: Settings, group: str, topic: str) -> None:
        """Take a connection; partitions that come later are seen from then on.

        Raises:
            ConfigurationError: the broker is there, and refuses these settings.

        """
        self._settings = settings
        self._topic = topic
        self._about = f"{settings.broker}: {topic} as {group} reads it"
        self._consumer = make_consumer(
            settings,
            group,
            enable_partition_eof=True,
            socket_timeout_ms=int(_TIMEOUT_S * 1000),
            # One record is all that a look needs; the broker still sends one whole batch.
            fetch_message_max_bytes=1_024,
            queued_min_messages=1,
        )

    def look(self, partitions: Sequence[int] | None = None) -> dict[int, Position]:
        """Return the position in each of `partitions`, or in all.

        Raises:
            BrokerUnavailable: the broker does not answer, or the topic is not there.

        """
        try:
            numbers = partitions_of(self._consumer, self._settings, self._topic)
            asked = [TopicPartition(self._topic, n) for n in numbers if partitions is None or n in partitions]
            committed = {tp.partition: tp.offset for tp in committed_offsets(self._consumer, asked)} if asked else {}
            return self._fetched(committed)
        except KafkaException as error:
            raise BrokerUnavailable(f"{self._about}: {error.args[0].str()}") from error
        finally:
            self._consumer.unassign()

    def _fetched(self, committed: dict[int, int]) -> dict[int, Position]:
        starts = {number: offset if offset >= 0 else OFFSET_BEGINNING for number, offset in committed.items()}
        self._consumer.assign([TopicPartition(self._topic, number, start) for number, start in starts.items()])
        found: dict[int, Position] = {}
        deadline = time.monotonic() + _TIMEOUT_S
        while len(found) < len(starts):
            for message in self._consumer.consume(len(starts), timeout=0.1):
                number, error = message.partition() or 0, message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise KafkaException(error)
                if number not in found:
                    oldest_ms = message.timestamp()[1] if error is None else None
                    found[number] = self._position(number, committed[number], oldest_ms)
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"{self._about}: nothing came of {sorted(starts.keys() - found.keys())}")
        return found

    def _position(self, number: int, committed: int, oldest_ms: int | None) -> Position:
        begin, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), cached=True)
        return Position(max(begin, 0), committed if committed >= 0 else None, max(end, 0), oldest_ms)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
