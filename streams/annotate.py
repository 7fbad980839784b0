"""The annotate stage: student, bands, and a review request for what stays uncertain."""

from collections.abc import Sequence

from models.cascade import decide
from models.features import upload_text
from models.student import Student
from monitoring import metrics
from schemas.annotation import Annotation, ReviewRequest
from schemas.events import VideoUpload
from schemas.wire import encode
from streams.clock import now_ms
from streams.record import Effects, Message, Record
from streams.stage import Item, Stage
from streams.students import LiveStudent
from streams.uploads import TakeDown, UploadDecoder, content_ms


class AnnotateStage(Stage[VideoUpload | TakeDown]):
    """Every upload becomes one annotation at once; what the student is unsure of also becomes one review request."""

    name = "annotate"

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
            known = newest.get(item.event.video_id)
            if known is None or content_ms(item.record, item.event) >= content_ms(known.record, known.event):
                newest[item.event.video_id] = item
        uploads = [(item.record, item.event) for item in newest.values() if isinstance(item.event, VideoUpload)]
        annotations = [
            _removed(item.record, item.event) for item in newest.values() if isinstance(item.event, TakeDown)
        ]
        requests: list[ReviewRequest] = []
        texts = [upload_text(upload) for _, upload in uploads]
        student = self._students.current
        scores = await student.score(texts)
        self._students.observe(texts, student, scores)
        for (record, upload), probability, embedding in zip(uploads, scores.probability, scores.embedding, strict=True):
            attributes = decide(probability, student.bands, student.ids, student.certified)
            uncertain = tuple(name for name, score in attributes.items() if score.label is None)
            annotation = Annotation(
                schema_version=1,
                video_id=upload.video_id,
                status="provisional" if uncertain else "final",
                received_at_ms=record.timestamp_ms,
                annotated_at_ms=now_ms(),
                creator_id=upload.creator_id,
                uploaded_at_ms=upload.uploaded_at_ms,
                language=upload.language,
                duration_ms=upload.duration_ms,
                attributes=attributes,
                embedding=embedding.tobytes(),
                student=student.version,
            )
            annotations.append(annotation)
            if uncertain:
                requests.append(
                    ReviewRequest(schema_version=1, upload=upload, annotation=annotation, attributes=uncertain)
                )

        def confirm() -> None:
            for annotation in annotations:
                metrics.ANNOTATED.labels(annotation.source, annotation.status).inc()

        return Effects(
            messages=[
                *(Message(self._annotations, a.video_id.encode(), encode(a)) for a in annotations),
                *(Message(self._review_requests, r.upload.video_id.encode(), encode(r)) for r in requests),
            ],
            confirm=confirm,
        )

    async def close(self) -> None:
        """Free the student."""
        await self._students.close()


def _removed(record: Record, event: TakeDown) -> Annotation:
    return Annotation(
        schema_version=1,
        video_id=event.video_id,
        status="removed",
        received_at_ms=record.timestamp_ms,
        annotated_at_ms=now_ms(),
    )
