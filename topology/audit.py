"""Proof that nothing was lost: every upload is in annotations or dead-letters, every annotation in the store."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from schemas.annotation import Annotation, Status
from schemas.dead_letter import DeadLetter
from schemas.errors import InvalidRecord
from schemas.wire import Decoder
from streams.attribute_store import AttributeStore
from streams.record import Record
from streams.uploads import UploadDecoder, content_ms
from topology.kafka import read_topic
from topology.settings import Settings
from topology.topics import ANNOTATIONS, DEAD_LETTERS, VIDEO_UPLOADS


class UploadCounts(msgspec.Struct, frozen=True):
    """Records on video-uploads; `lost` are neither annotated nor dead letters."""

    records: int
    videos: int
    dead_lettered: int
    lost: int


class AnnotationCounts(msgspec.Struct, frozen=True):
    """Records on annotations, and videos by the status of their newest one.

    `media_pending` of the provisional ones wait for a look at their video.
    """

    records: int
    final: int
    provisional: int
    removed: int
    media_pending: int


class StoreCounts(msgspec.Struct, frozen=True):
    """Rows of the table; `missing` videos are annotated but not stored, `stale` ones at an older annotation."""

    rows: int
    duplicates: int
    missing: int
    stale: int


class Audit(msgspec.Struct, frozen=True):
    """The counts, and up to ten examples of each kind of what does not add up or is pending."""

    uploads: UploadCounts
    annotations: AnnotationCounts
    store: StoreCounts
    examples: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything adds up."""
        return not (self.uploads.lost or self.store.duplicates or self.store.missing or self.store.stale)


_EXAMPLES = 10


def audit(settings: Settings, table: AttributeStore) -> Audit:
    """Read the topics and the table and count.

    What is still in flight counts as lost or missing, so let the workers drain first.

    Raises:
        Unavailable: broker or store does not answer.

    """
    letters = _dead_origins(read_topic(settings, DEAD_LETTERS))
    newest, annotation_records = _newest(read_topic(settings, ANNOTATIONS), letters)
    uploads, lost = _uploads(read_topic(settings, VIDEO_UPLOADS), newest, letters)
    store, unstored = _store(table, newest)
    pending = [name for name, one in newest.items() if one.media is not None and one.media.status == "pending"]
    statuses: Counter[Status] = Counter(annotation.status for annotation in newest.values())
    return Audit(
        uploads,
        AnnotationCounts(
            annotation_records, statuses["final"], statuses["provisional"], statuses["removed"], len(pending)
        ),
        store,
        tuple([*lost, *unstored, *(f"video {name!r} was not looked at yet" for name in pending[:_EXAMPLES])]),
    )


def _dead_origins(records: Iterable[Record]) -> set[str]:
    decoder = Decoder(DeadLetter)
    return {decoder.decode(record.value).origin for record in records if record.value is not None}


def _origin(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def _newest(records: Iterable[Record], letters: set[str]) -> tuple[dict[str, Annotation], int]:
    decoder, newest, count = Decoder(Annotation), dict[str, Annotation](), 0
    for record in records:
        count += 1
        if record.value is None or _origin(record) in letters:
            continue
        annotation = decoder.decode(record.value)
        known = newest.get(annotation.video_id)
        if known is None or annotation.seq > known.seq:
            # Scores and embeddings are not counted; without them millions fit in memory.
            newest[annotation.video_id] = msgspec.structs.replace(annotation, attributes={}, embedding=None)
    return newest, count


def _uploads(
    records: Iterable[Record], newest: Mapping[str, Annotation], letters: set[str]
) -> tuple[UploadCounts, list[str]]:
    decoder, lost = UploadDecoder(), list[str]()
    count, dead, missing, videos = 0, 0, 0, set[str]()
    for record in records:
        count += 1
        if _origin(record) in letters:
            dead += 1
            continue
        try:
            event = decoder.decode(record)
        except InvalidRecord as error:
            missing += 1
            lost.append(f"{_origin(record)} is unusable ({error.kind}) and no dead letter")
            continue
        videos.add(event.video_id)
        annotation = newest.get(event.video_id)
        if annotation is None or annotation.content_ms < content_ms(record, event):
            missing += 1
            lost.append(f"{_origin(record)}, video {event.video_id!r}: no annotation of this content")
        del lost[_EXAMPLES:]
    return UploadCounts(count, len(videos), dead, missing), lost


def _store(table: AttributeStore, newest: Mapping[str, Annotation]) -> tuple[StoreCounts, list[str]]:
    stored, rows = dict[str, int](), 0
    for batch in table.read(["video_id", "seq"]):
        for row in batch.to_pylist():
            rows += 1
            video_id: str = row["video_id"]
            stored[video_id] = max(row["seq"], stored.get(video_id, 0))
    missing = [video_id for video_id in newest if video_id not in stored]
    stale = [video_id for video_id, a in newest.items() if video_id in stored and stored[video_id] < a.seq]
    examples = [f"video {video_id!r} is annotated but not in the store" for video_id in missing]
    examples += [f"video {video_id!r} is in the store at an older annotation" for video_id in stale]
    return StoreCounts(rows, rows - len(stored), len(missing), len(stale)), examples[:_EXAMPLES]
