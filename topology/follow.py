"""Following the whole annotations topic, outside of any consumer group."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from monitoring import metrics
from schemas.annotation import Annotation
from schemas.errors import BrokerUnavailable, InvalidRecord
from schemas.wire import Decoder
from streams.record import Record
from streams.tracing import Tracing
from topology.kafka import committed_offsets, make_consumer, partitions_of, to_record
from topology.settings import Settings
from topology.topics import ANNOTATIONS

log = logging.getLogger(__name__)
_TIMEOUT_S = 10.0
_MOST = 2_000
Sink = Callable[[Sequence[Annotation]], Awaitable[None]]


class AnnotationFollower:
    """Hands every annotation from a known position on to a sink, in a thread of its own.

    The position is what the store group has committed: all before it is in LanceDB. Read the position first (make the
    follower), then the table, then start: nothing falls between. Annotations that come twice are settled by `seq`.
    """

    def __init__(self, settings: Settings, tracing: Tracing | None = None) -> None:
        self._tracing = tracing or Tracing()
        self._topic = settings.topic(ANNOTATIONS)
        self._decoder = Decoder(Annotation)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._consumer = make_consumer(settings, settings.group("store"))
        self._from = self._stored_offsets(settings)

    def _stored_offsets(self, settings: Settings) -> list[TopicPartition]:
        partitions = partitions_of(self._consumer, settings, self._topic)
        try:
            committed = committed_offsets(
                self._consumer, [TopicPartition(self._topic, partition) for partition in partitions]
            )
        except KafkaException as error:
            raise BrokerUnavailable(f"{settings.broker}: {self._topic}: {error.args[0].str()}") from error
        return [
            TopicPartition(self._topic, tp.partition, tp.offset if tp.offset >= 0 else OFFSET_BEGINNING)
            for tp in committed
        ]

    def rewind(self) -> None:
        """Follow from the beginning instead."""
        self._from = [TopicPartition(self._topic, tp.partition, OFFSET_BEGINNING) for tp in self._from]

    def start(self, sink: Sink, on_failure: Callable[[BaseException], None]) -> None:
        """Start following; `sink` and `on_failure` run on the calling event loop."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=(loop, sink, on_failure), name="follow", daemon=True)
        self._thread.start()

    def _run(self, loop: asyncio.AbstractEventLoop, sink: Sink, on_failure: Callable[[BaseException], None]) -> None:
        try:
            self._consumer.assign(self._from)
            while not self._stopping.is_set():
                annotations, records, as_of_s = self._poll()
                if annotations:
                    self._tracing.begin(records)
                    asyncio.run_coroutine_threadsafe(_call(sink, annotations), loop).result()
                    self._tracing.end(records)
                metrics.SNAPSHOT_AS_OF.set(as_of_s)
        except BaseException as error:
            if not self._stopping.is_set():
                loop.call_soon_threadsafe(on_failure, error)
        finally:
            self._consumer.close()

    def _poll(self) -> tuple[list[Annotation], list[Record], float]:
        """Return what came, in which records (if traced), and up to when (epoch seconds) that is all there is."""
        annotations: list[Annotation] = []
        records: list[Record] = []
        now, messages = time.time(), self._consumer.consume(_MOST, timeout=0.02)
        as_of_s = min(now, messages[-1].timestamp()[1] / 1000) if len(messages) == _MOST else now
        for message in messages:
            error = message.error()
            if error is not None:
                log.warning("annotations: %s", error.str())
                continue
            value = message.value()
            try:
                if value is not None:
                    annotation = self._decoder.decode(value)
                    if message.key() != annotation.video_id.encode():
                        raise InvalidRecord("impossible", f"key {message.key()!r} of video {annotation.video_id!r}")
                    annotations.append(annotation)
                    if self._tracing.on:
                        records.append(to_record(message))
            except InvalidRecord as invalid:
                # The store role files it as a dead letter; here it is only no candidate.
                log.warning("annotations/%s@%s: %s", message.partition(), message.offset(), invalid)
        return annotations, records, as_of_s

    def close(self) -> None:
        """Stop following."""
        self._stopping.set()
        if self._thread is None:
            self._consumer.close()
        else:
            self._thread.join(_TIMEOUT_S)


async def _call(sink: Sink, annotations: Sequence[Annotation]) -> None:
    await sink(annotations)
