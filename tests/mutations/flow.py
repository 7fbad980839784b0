"""Uploads through annotate and store in one process, then the audit: `python flow.py` in the folder of a build."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import topology
from models.student import Student
from schemas.attributes import load_catalogue
from schemas.events import VideoUpload
from schemas.wire import encode
from streams.annotate import AnnotateStage
from streams.clock import now_ms
from streams.delivery import Delivery
from streams.record import Message, Record
from streams.store import StoreStage
from topology.attribute_store import open_table
from topology.bundle import bundle_path
from topology.cli import main
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.settings import Settings, read_settings
from topology.topics import ANNOTATIONS, DEAD_LETTERS, REVIEW_REQUESTS, VIDEO_UPLOADS, ensure_topics

_ANNOTATE_RUN = 10
_STORE_RUN = 30  # holds annotations of several annotate runs, and so two of one new video


def _uploads(topic: str, now: int) -> Iterator[Message]:
    """60 records, of which 10 upload a video again with newer content, 2 are unusable and 3 take a video down."""

    def upload(number: int, at_ms: int) -> Message:
        video = VideoUpload(
            schema_version=1,
            video_id=f"v{number}",
            creator_id="c",
            uploaded_at_ms=at_ms,
            title=f"A walk, part {number}",
        )
        return Message(topic, video.video_id.encode(), encode(video))

    yield from (upload(number, now - 60_000) for number in range(10))
    yield from (upload(number, now - 30_000) for number in range(10))
    yield Message(topic, b"p", b"{ no JSON")
    yield from (upload(number, now - 60_000) for number in range(10, 45))
    yield Message(topic, b"q", b'{"schema_version": 1}')
    yield from (Message(topic, f"v{number}".encode(), None) for number in (3, 12, 40))


def _runs(records: Iterator[Record], size: int) -> Iterator[Sequence[Record]]:
    while run := list(islice(records, size)):
        yield run


async def _flow(settings: Settings) -> None:
    ensure_topics(settings)
    producer = ConfirmedProducer(settings)
    producer.produce_now(list(_uploads(settings.topic(VIDEO_UPLOADS), now_ms())))
    catalogue = load_catalogue()

    annotate = AnnotateStage(
        Student.load(bundle_path(settings), catalogue),
        annotations=settings.topic(ANNOTATIONS),
        review_requests=settings.topic(REVIEW_REQUESTS),
        dead_letters=settings.topic(DEAD_LETTERS),
    )
    delivery = Delivery(annotate, producer.produce)
    for run in _runs(read_topic(settings, VIDEO_UPLOADS), _ANNOTATE_RUN):
        await delivery.deliver(run)
    await annotate.close()

    store = StoreStage(open_table(settings, catalogue), settings.topic(DEAD_LETTERS))
    delivery = Delivery(store, producer.produce)
    annotated = list(read_topic(settings, ANNOTATIONS))
    for run in _runs(iter(annotated), _STORE_RUN):
        await delivery.deliver(run)
    await delivery.deliver(annotated[:_ANNOTATE_RUN])  # as after a crash between the upsert and the commit
    await store.close()
    producer.close()


if __name__ == "__main__":
    import os

    here = Path(topology.__file__).parents[1]
    if here != Path.cwd():
        raise SystemExit(f"the build of {here} runs, not that of {Path.cwd()}")
    asyncio.run(_flow(read_settings(os.environ)))
    main(["audit"])
