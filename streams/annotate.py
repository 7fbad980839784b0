"""The annotate stage: student, bands, and a review request for what stays uncertain."""

from collections.abc import Sequence

import numpy as np

from models.features import upload_text
from models.student import Student
from monitoring import metrics
from schemas.annotation import Annotation, Media, MediaRequest
from schemas.events import VideoUpload
from schemas.wire import encode, encode_with
from streams.annotated import annotated
from streams.clock import now_ms
from streams.decisions import count_decisions
from streams.record import Effects, Message, Record
from streams.stage import Item, Stage
from streams.students import LiveStudent
from streams.uploads import TakeDown, UploadDecoder, content_ms, received_ms

# A ReviewRequest, made of parts that are JSON already.
_REQUEST = b'{"schema_version":1,"upload":%b,"annotation":%b,"attributes":%b%b}'

_PENDING = Media("pending")
_OFF = Media("off", "no videos are looked at here: VIBESTREAM_MEDIA_ALLOW is empty")
_UNUSED = Media("unused", "the student reads text only, and no text is made of videos")


class AnnotateStage(Stage[VideoUpload | TakeDown]):
    """Every upload becomes one annotation at once; what the student is unsure of also becomes one review request.

    Of an upload with a media_uri that shall be looked at, this is the annotation by its text: it stays provisional and
    becomes a media request instead. So text never waits for a video.
    """

    name = "annotate"
    freshness = metrics.UPLOAD_TO_ANNOTATED
    needs_of_last = "nothing"

    def __init__(
        self,
        student: Student | LiveStudent,
        *,
        annotations: str,
        review_requests: str,
        dead_letters: str,
        media_requests: str | None = None,
        makes_text: bool = False,
    ) -> None:
        """Take over `student`; a LiveStudent may change between two runs, never within one.

        Without a topic of `media_requests` no video is looked at; `makes_text`: whoever looks makes text of videos, so
        that even a student that only reads has a use for them.
        """
        super().__init__(dead_letters)
        self._students = student if isinstance(student, LiveStudent) else LiveStudent(student)
        self._annotations = annotations
        self._review_requests = review_requests
        self._media_requests = media_requests
        self._makes_text = makes_text
        self._uploads = UploadDecoder()

    def decode(self, record: Record) -> VideoUpload | TakeDown:
        """Return the upload, or the take-down that a record without value means."""
        return self._uploads.decode(record)

    async def process(self, items: Sequence[Item[VideoUpload | TakeDown]]) -> Effects:
        """Annotate the newest content of each video in the run."""
        newest: dict[str, Item[VideoUpload | TakeDown]] = {}
        for item in items:
            known = newest.setdefault(item.event.video_id, item)
            if known is not item and content_ms(item.record, item.event) >= content_ms(known.record, known.event):
                newest[item.event.video_id] = item
        uploads = [(item.record, item.event) for item in newest.values() if isinstance(item.event, VideoUpload)]
        removed = [(item.record, item.event) for item in newest.values() if isinstance(item.event, TakeDown)]
        texts = [upload_text(upload) for _, upload in uploads]
        student = self._students.current
        scores = await student.score(texts)
        self._students.observe(texts, student, scores)
        annotations = [
            Message(self._annotations, record.key, encode(_removed(record, event))) for record, event in removed
        ]
        requests: list[Message] = []
        looks: list[Message] = []
        waiting: list[int] = []
        proven_with = b',"certified_with":' + encode(student.certified_with) if student.certified_with else b""
        now, size, vectors = now_ms(), 2 * student.dim, scores.embedding.tobytes()
        for at, ((record, upload), verdict) in enumerate(
            zip(uploads, student.verdicts.of(scores.probability), strict=True)
        ):
            uncertain = verdict.uncertain
            media = None if upload.media_uri is None else self._media(student)
            pending = media is _PENDING
            annotation = annotated(
                upload,
                student,
                vectors[at * size : (at + 1) * size],
                received_ms=received_ms(record),
                now_ms=now,
                provisional=pending or bool(uncertain),
                media=media,
            )
            value = encode_with(annotation, "attributes", verdict.attributes)
            annotations.append(Message(self._annotations, record.key, value))
            if pending:
                waiting.append(at)
                looks.append(self._look(record, upload))
            elif uncertain:
                request = _REQUEST % (encode(upload), value, verdict.uncertain_json, proven_with)
                requests.append(Message(self._review_requests, record.key, request))

        def confirm() -> None:
            provisional = len(requests) + len(looks)
            final = len(uploads) - provisional
            for status, count in (("removed", len(removed)), ("provisional", provisional), ("final", final)):
                if count:
                    metrics.ANNOTATED.labels("student", status).inc(count)
            decided = scores.probability
            count_decisions(student, np.delete(decided, waiting, axis=0) if waiting else decided)

        return Effects(
            messages=annotations + requests + looks,
            visible_ms=[record.timestamp_ms for record, _ in uploads],
            confirm=confirm,
        )

    async def close(self) -> None:
        """Free the student."""
        await self._students.close()

    def _media(self, student: Student) -> Media:
        if self._media_requests is None:
            return _OFF
        return _PENDING if self._makes_text or student.frames or student.sound else _UNUSED

    def _look(self, record: Record, upload: VideoUpload) -> Message:
        request = MediaRequest(schema_version=1, upload=upload, received_at_ms=received_ms(record))
        return Message(self._media_requests or "", record.key, encode(request))


def _removed(record: Record, event: TakeDown) -> Annotation:
    return Annotation(
        schema_version=1,
        video_id=event.video_id,
        status="removed",
        received_at_ms=received_ms(record),
        annotated_at_ms=now_ms(),
    )
