"""The same annotating in five streaming set-ups: `python -m tests.benchmarks.contestants NAME`.

Each reads video-uploads from the beginning, does what `annotate` does to every record (decode, student, bands, encode)
and produces annotations and review requests, idempotently, with acks from all replicas. They differ in who moves the
records and in how many are handed over at once: a stage gains from runs, and only the bare loop, bytewax and ours have
them. Settings come from the environment, as a worker's do.
"""

import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
from confluent_kafka import Consumer, Producer
from confluent_kafka import Message as KafkaMessage
from numpy.typing import NDArray

from models.bundle import default_bundle, load_bundle
from models.cascade import decide
from models.features import load_tokenizer, pad, tokenize, upload_text
from models.student import Scores, Student, open_session
from schemas.annotation import ReviewRequest
from schemas.attributes import load_catalogue
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from streams.annotate import AnnotateStage
from streams.annotated import annotated
from streams.clock import now_ms
from streams.record import Message, Record
from streams.uploads import TakeDown
from topology.kafka import client_config
from topology.roles import annotate as annotate_role
from topology.roles import build
from topology.settings import Settings, read_settings
from topology.topics import ANNOTATIONS, DEAD_LETTERS, REVIEW_REQUESTS, VIDEO_UPLOADS
from topology.worker import run_worker

T = TypeVar("T")
Floats = NDArray[np.float32]
RUN = 1_000
_BATCH = 32
_PRODUCER = {"enable.idempotence": True, "acks": "all", "linger.ms": 5, "compression.type": "lz4"}


class InlineStudent(Student):
    """Scores in the thread that asks: these loops have no other work meanwhile."""

    async def score(self, texts: Sequence[str]) -> Scores:
        return self.score_now(texts)


Annotate = Callable[[Sequence[Record]], Sequence[Message]]


class Work:
    """What every contestant does to records: our stage, driven without an event loop."""

    def __init__(self, settings: Settings) -> None:
        self._stage = AnnotateStage(
            InlineStudent.load(default_bundle(), load_catalogue()),
            annotations=settings.topic(ANNOTATIONS),
            review_requests=settings.topic(REVIEW_REQUESTS),
            dead_letters=settings.topic(DEAD_LETTERS),
        )

    def __call__(self, records: Sequence[Record]) -> Sequence[Message]:
        effects = _result(self._stage.run(records))
        effects.confirm()
        return effects.messages


def _result(waiting: Awaitable[T]) -> T:
    """Return what a coroutine that never suspends returns."""
    try:
        waiting.__await__().send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("it waits for something")


class PlainWork:
    """The same without what makes our stage fast, from the same parts: what the gate holds our worker against."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._catalogue = settings, load_catalogue()
        self._student = Student.load(default_bundle(), self._catalogue)
        bundle = load_bundle(default_bundle())
        self._tokenizer = load_tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)
        self._session = open_session(bundle, "cpu")
        order = [attribute.id for attribute in bundle.manifest.attributes]
        self._columns = [order.index(name) for name in self._catalogue.ids]
        self._decoder = Decoder(VideoUpload)

    def __call__(self, records: Sequence[Record]) -> Sequence[Message]:
        uploads = [self._decoder.decode(record.value or b"") for record in records]
        tokens = tokenize(self._tokenizer, [upload_text(upload) for upload in uploads])
        by_length = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        made: list[Message] = []
        for start in range(0, len(tokens), _BATCH):
            chosen = by_length[start : start + _BATCH]
            ids, mask = pad([tokens[i] for i in chosen])
            found, vectors = self._session.run(["probability", "vector"], {"ids": ids, "mask": mask})
            for i, p, vector in zip(chosen, np.asarray(found)[:, self._columns], np.asarray(vectors), strict=True):
                made.extend(self._messages(records[i], uploads[i], p, vector))
        return made

    def _messages(self, record: Record, upload: VideoUpload, p: Floats, vector: Floats) -> Iterator[Message]:
        student = self._student
        scores = decide(p, student.bands, student.ids, student.certified)
        uncertain = tuple(name for name, score in scores.items() if score.label is None)
        annotation = annotated(
            upload,
            student,
            vector.astype(np.float16).tobytes(),
            scores,
            received_ms=record.timestamp_ms,
            now_ms=now_ms(),
            provisional=bool(uncertain),
        )
        yield Message(self._settings.topic(ANNOTATIONS), record.key, encode(annotation))
        if uncertain:
            request = ReviewRequest(schema_version=1, upload=upload, annotation=annotation, attributes=uncertain)
            yield Message(self._settings.topic(REVIEW_REQUESTS), record.key, encode(request))


def bare(settings: Settings) -> None:
    """Consume, work, produce, flush, commit: the least that keeps every record."""
    _loop(settings, Work(settings))


def plain(settings: Settings) -> None:
    """The same loop with the plain work."""
    _loop(settings, PlainWork(settings))


def _loop(settings: Settings, work: Annotate) -> None:
    topic = settings.topic(VIDEO_UPLOADS)
    group = {
        "group.id": settings.group("annotate"),
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        # The embedded broker lets a new group wait for half of this.
        "session.timeout.ms": int(settings.session_timeout_s * 1000),
    }
    consumer = Consumer({**client_config(settings), **group})
    producer = Producer({**client_config(settings), **_PRODUCER})
    failed: list[object] = []

    def report(error: object, _: KafkaMessage) -> None:
        if error is not None:
            failed.append(error)

    consumer.subscribe([topic])
    while True:
        fetched = consumer.consume(RUN, timeout=0.05)
        if not fetched:
            continue
        records = [
            Record(topic, m.partition() or 0, m.offset() or 0, m.timestamp()[1], m.key(), m.value())
            for m in fetched
            if m.error() is None
        ]
        for message in work(records):
            while True:
                try:
                    producer.produce(message.topic, message.value, message.key, on_delivery=report)
                    break
                except BufferError:
                    producer.poll(0.1)
        if producer.flush(30) or failed:
            raise SystemExit(f"not delivered: {failed[:1]}")
        consumer.commit(asynchronous=False)


def quixstreams(settings: Settings) -> None:
    """quixstreams: a StreamingDataFrame hands over one record at a time."""
    from quixstreams import Application

    work, name = Work(settings), settings.topic(VIDEO_UPLOADS)
    app = Application(
        settings.bootstrap,
        consumer_group=settings.group("annotate"),
        auto_offset_reset="earliest",
        producer_extra_config=_PRODUCER,
        auto_create_topics=False,
        loglevel="WARNING",
    )
    source = app.topic(name, value_deserializer="bytes", key_deserializer="bytes")
    sinks = {
        topic: app.topic(topic, value_serializer="bytes", key_serializer="bytes")
        for topic in (settings.topic(ANNOTATIONS), settings.topic(REVIEW_REQUESTS), settings.topic(DEAD_LETTERS))
    }

    def annotate(value: bytes, key: bytes, timestamp: int, _: object) -> list[tuple[str, bytes | None]]:
        return [(m.topic, m.value) for m in work([Record(name, 0, 0, timestamp, key, value)])]

    def to_sink(made: tuple[str, bytes], *_: object) -> Any:
        return sinks[made[0]]

    frame = app.dataframe(source).apply(annotate, expand=True, metadata=True)
    for topic, sink in sinks.items():
        frame.filter(lambda made, topic=topic: made[0] == topic).apply(lambda made: made[1]).to_topic(sink)
    app.run()


def bytewax(settings: Settings) -> None:
    """bytewax, without recovery: whole batches through `flat_map_batch`."""
    from bytewax import operators as op
    from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSource, KafkaSourceMessage
    from bytewax.connectors.kafka import operators as kafka
    from bytewax.dataflow import Dataflow
    from bytewax.testing import run_main

    work, topic = Work(settings), settings.topic(VIDEO_UPLOADS)

    def annotate(batch: Sequence[KafkaSourceMessage[bytes, bytes]]) -> Iterable[KafkaSinkMessage[bytes, bytes]]:
        records = [Record(topic, m.partition or 0, m.offset or 0, _ms(m), m.key, m.value) for m in batch]
        return [KafkaSinkMessage(m.key, m.value, topic=m.topic) for m in work(records)]

    def _ms(message: KafkaSourceMessage[bytes, bytes]) -> int:
        return message.timestamp[1] if message.timestamp else 0

    flow = Dataflow("annotate")
    read = op.input("read", flow, KafkaSource([settings.bootstrap], [topic], batch_size=RUN, tail=True))
    made = op.flat_map_batch("annotate", read, annotate)
    kafka.output(
        "write",
        made,
        brokers=[settings.bootstrap],
        topic=settings.topic(ANNOTATIONS),
        add_config={name: str(value).lower() for name, value in _PRODUCER.items()},
    )
    run_main(flow, epoch_interval=timedelta(seconds=1))


def faust(settings: Settings) -> None:
    """Faust as its documentation shows it: one event at a time, `topic.send`."""
    import faust as faust_streaming

    work, name = Work(settings), settings.topic(VIDEO_UPLOADS)
    app = faust_streaming.App(
        settings.group("annotate"),
        broker=settings.broker,
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        producer_acks=-1,
        key_serializer="raw",
        value_serializer="raw",
    )
    source = app.topic(name, key_serializer="raw", value_serializer="raw")
    sinks = {
        topic: app.topic(topic, key_serializer="raw", value_serializer="raw")
        for topic in (settings.topic(ANNOTATIONS), settings.topic(REVIEW_REQUESTS), settings.topic(DEAD_LETTERS))
    }

    @app.agent(source)
    async def annotate(stream: Any) -> None:
        async for event in stream.events():
            raw = event.message
            for made in work([Record(name, raw.partition, raw.offset, int(raw.timestamp * 1000), raw.key, raw.value)]):
                await sinks[made.topic].send(key=made.key, value=made.value)

    _ = annotate
    faust_streaming.Worker(app, loglevel="WARNING").execute_from_commandline()


def ours(_: Settings) -> None:
    """The annotate role's worker."""
    os.execv(sys.executable, [sys.executable, "-m", "topology.cli", "worker", "annotate"])


def slowed(settings: Settings) -> None:
    """Our worker with 100 us of CPU more for every upload: the gate must refuse it."""

    class Slowed(AnnotateStage):
        def decode(self, record: Record) -> VideoUpload | TakeDown:
            end = time.thread_time() + 100e-6
            while time.thread_time() < end:
                pass
            return super().decode(record)

    annotate_role.AnnotateStage = Slowed
    run_worker(settings, lambda: build(settings, "annotate"))


CONTESTANTS: dict[str, Callable[[Settings], None]] = {
    "ours": ours,
    "bare": bare,
    "quixstreams": quixstreams,
    "bytewax": bytewax,
    "faust": faust,
    "plain": plain,
    "slowed": slowed,
}

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    CONTESTANTS[sys.argv[1]](read_settings(os.environ))
