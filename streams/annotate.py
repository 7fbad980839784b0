"""The annotate stage: student, bands, and a review request for what stays uncertain."""

from collections.abc import Sequence

from models.features import upload_text
from models.student import Student
from monitoring import metrics
from schemas.annotation import Annotation
from schemas.events import VideoUpload
from schemas.wire import encode, encode_with
from streams.clock import now_ms
from streams.record import Effects, Message, Record
from streams.stage import Item, Stage
from streams.students import LiveStudent
from streams.uploads import TakeDown, UploadDecoder, content_ms, received_ms

# A ReviewRequest, made of parts that are JSON already.
_REQUEST = b'{"schema_version":1,"upload":%b,"annotation":%b,"attributes":%b}'


class AnnotateStage(Stage[VideoUpload | TakeDown]):
    """Every upload becomes one annotation at once; what the student is unsure of also becomes one review request."""

    name = "annotate"
    looks_back = False

    def __init__(
        self, student: Student | LiveStudent, *, annotations: str, review_requests: str, dead_letters: str
    ) -> None:
        """Take over `student`; a LiveStudent may change between two runs, never within one."""
        super().__init__(dead_letters)
        self._students = student if isinstance(student, LiveStudent) else LiveStudent(student)
        self._annotations = annotations
        self._review_requests = review_requests
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
        now, size, vectors = now_ms(), 2 * student.dim, scores.embedding.tobytes()
        for at, ((record, upload), verdict) in enumerate(
            zip(uploads, student.verdicts.of(scores.probability), strict=True)
        ):
            uncertain = verdict.uncertain
            annotation = Annotation(
                schema_version=1,
                video_id=upload.video_id,
                status="provisional" if uncertain else "final",
                received_at_ms=received_ms(record),
                annotated_at_ms=now,
                creator_id=upload.creator_id,
                uploaded_at_ms=upload.uploaded_at_ms,
                language=upload.language,
                duration_ms=upload.duration_ms,
                embedding=vectors[at * size : (at + 1) * size],
                student=student.version,
            )
            value = encode_with(annotation, "attributes", verdict.attributes)
            annotations.append(Message(self._annotations, record.key, value))
            if uncertain:
                request = _REQUEST % (encode(upload), value, verdict.uncertain_json)
                requests.append(Message(self._review_requests, record.key, request))

        def confirm() -> None:
            final = len(uploads) - len(requests)
            for status, count in (("removed", len(removed)), ("provisional", len(requests)), ("final", final)):
                if count:
                    metrics.ANNOTATED.labels("student", status).inc(count)

        return Effects(messages=annotations + requests, confirm=confirm)

    async def close(self) -> None:
        """Free the student."""
        await self._students.close()


def _removed(record: Record, event: TakeDown) -> Annotation:
    return Annotation(
        schema_version=1,
        video_id=event.video_id,
        status="removed",
        received_at_ms=received_ms(record),
        annotated_at_ms=now_ms(),
    )
