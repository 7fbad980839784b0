"""What every confluent-kafka client of ours is configured with, and reading a topic from its beginning to its end."""

import logging
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.errors import BrokerUnavailable
from streams.record import Record
from topology.refusal import check_access
from topology.security import confluent_security
from topology.settings import Role, Settings

T = TypeVar("T")
_TIMEOUT_S = 10.0
_BATCH = 5_000
_AHEAD_KB = 4_096
# The coordinator of a group and the leader of a partition are not there at once, and move when a broker ends.
_NOT_THERE_YET = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_LEADER_FOR_PARTITION,
)

# librdkafka writes to stderr unless it is given a logger.
_log = logging.getLogger("librdkafka")


def client_config(settings: Settings, **more: Any) -> dict[str, Any]:
    """Return the configuration of a client, with `more` on top (dots written as underscores)."""
    own = {name.replace("_", "."): value for name, value in more.items()}
    return {"bootstrap.servers": settings.bootstrap, "logger": _log, **confluent_security(settings), **own}


def make_consumer(settings: Settings, group: str, **more: Any) -> Consumer:
    """Return a consumer for `assign`: it never joins its group and never commits; the group is for reading offsets.

    Raises:
        ConfigurationError: the broker is there, and refuses these settings.

    """
    check_access(settings)
    return Consumer(
        client_config(
            settings,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_wait_max_ms=20,
            # librdkafka reads 64 MB of every partition ahead, and looks only once a second whether there is room again.
            queued_max_messages_kbytes=_AHEAD_KB,
            fetch_queue_backoff_ms=5,
            **more,
        )
    )


def read_topic(settings: Settings, name: str, quiet_s: float = 0.0) -> Generator[Record]:
    """Yield every record that a topic has now.

    The end of a partition is where a fetch finds nothing more, at the broker's own end offset or past it: some brokers
    put that too low. With `quiet_s`, what comes until nothing more came for so long is yielded too.

    Raises:
        BrokerUnavailable: the broker does not answer or falls silent before the end, or the topic is not there.

    """
    topic = settings.topic(name)
    # The last offsets may have no record (compacted, expired, a transaction marker): the consumer says when it is past.
    consumer = make_consumer(settings, f"{topic}-read", enable_partition_eof=True)
    try:
        partitions = partitions_of(consumer, settings, topic)
        ends = {p: watermarks(consumer, TopicPartition(topic, p))[1] for p in partitions}
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        last = time.monotonic()
        while ends or time.monotonic() - last < quiet_s:
            for message in consumer.consume(_BATCH, timeout=0.1):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    partition, offset = message.partition() or 0, message.offset() or 0
                    if offset >= ends.get(partition, 0):
                        ends.pop(partition, None)
                    continue
                if error is not None:
                    raise BrokerUnavailable(f"{topic}: {error.str()}")
                last = time.monotonic()
                yield to_record(message)
            if time.monotonic() - last > _TIMEOUT_S:
                raise BrokerUnavailable(f"{settings.broker}: {topic}: silent for {_TIMEOUT_S:.0f} s before its end")
    except KafkaException as error:
        raise BrokerUnavailable(f"{settings.broker}: {topic}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def to_record(message: Message) -> Record:
    """Return a message that is no error as a record."""
    headers: Any = message.headers() or ()
    place = message.topic() or "", message.partition() or 0, message.offset() or 0
    return Record(*place, message.timestamp()[1], message.key(), message.value(), tuple(headers))


def partitions_of(consumer: Consumer, settings: Settings, topic: str) -> list[int]:
    """Return the partition numbers of a topic.

    Raises:
        BrokerUnavailable: the broker does not answer, or the topic is not there.

    """
    try:
        found = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
    except KafkaException as error:
        raise BrokerUnavailable(
            f"no Kafka broker answers at {settings.broker}: {error.args[0].str()}; "
            "start one or set VIBESTREAM_BROKER=kafka://host:port"
        ) from error
    if found.error is not None or not found.partitions:
        raise BrokerUnavailable(f"{settings.broker} has no topic {topic}; create it with: vibestream topics ensure")
    return sorted(found.partitions)


def count_partitions(settings: Settings, name: str) -> int:
    """Return how many partitions a topic has.

    Raises:
        ConfigurationError: the broker is there, and refuses these settings.
        BrokerUnavailable: the broker does not answer, or the topic is not there.

    """
    topic = settings.topic(name)
    silent = logging.Logger("silent", logging.CRITICAL)  # what is wrong is in the error
    consumer = make_consumer(settings, f"{topic}-read", logger=silent)
    try:
        return len(partitions_of(consumer, settings, topic))
    finally:
        consumer.close()


def committed_offsets(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """Return `partitions` with the offsets that the consumer's group has committed; below 0 where it has none.

    Raises:
        KafkaException: the broker does not answer.

    """
    return _patiently(lambda: consumer.committed(partitions, timeout=_TIMEOUT_S))


def watermarks(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """Return the offset of the first record that a partition holds, and that which the next will have.

    Raises:
        KafkaException: the broker does not answer.

    """
    return _patiently(lambda: consumer.get_watermark_offsets(partition, timeout=_TIMEOUT_S))


def _patiently(ask: Callable[[], T]) -> T:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _NOT_THERE_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class Committed:
    """How many records of a topic a role has finished and committed."""

    def __init__(self, settings: Settings, role: Role, name: str) -> None:
        """`name` is the topic, whose offsets start at 0."""
        self._about = f"{settings.broker}: offsets of {settings.group(role)}"
        self._consumer = make_consumer(settings, settings.group(role))
        topic = settings.topic(name)
        self._partitions = [TopicPartition(topic, p) for p in partitions_of(self._consumer, settings, topic)]

    def count(self) -> int:
        """Return the sum over all partitions now.

        Raises:
            BrokerUnavailable: the broker does not answer.

        """
        try:
            return sum(max(tp.offset, 0) for tp in committed_offsets(self._consumer, self._partitions))
        except KafkaException as error:
            raise BrokerUnavailable(f"{self._about}: {error.args[0].str()}") from error

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
