"""The media stage: what was annotated by its text is annotated again when its video was looked at."""

from collections.abc import Sequence

import msgspec

from models.cascade import decide
from models.features import upload_text
from models.media.look import Look, Looker
from models.student import Student
from monitoring import metrics
from schemas.annotation import Annotation, Media, MediaRequest, ReviewRequest
from schemas.errors import InvalidRecord
from schemas.wire import Decoder, encode
from streams.annotated import annotated
from streams.clock import now_ms
from streams.decisions import count_decisions
from streams.record import Effects, Message, Record
from streams.stage import Item, Stage, record_key
from streams.students import LiveStudent


class MediaStage(Stage[MediaRequest]):
    """Every media request becomes one annotation, whatever is wrong with the video; the newest one of a run counts.

    A video that can't be looked at is decided by its text, and says why. So nothing that a stranger uploaded holds up
    the stream for longer than the limits of the looker, and nothing of it is lost.
    """

    name = "media"

    def __init__(
        self,
        student: Student | LiveStudent,
        looker: Looker,
        *,
        annotations: str,
        review_requests: str,
        dead_letters: str,
    ) -> None:
        """Take over `student` and `looker`."""
        super().__init__(dead_letters)
        self._students = student if isinstance(student, LiveStudent) else LiveStudent(student)
        self._looker = looker
        self._annotations = annotations
        self._review_requests = review_requests
        self._requests = Decoder(MediaRequest)

    def decode(self, record: Record) -> MediaRequest:
        """Return the request."""
        video_id = record_key(record)
        if record.value is None:
            raise InvalidRecord("impossible", "a media request has a value")
        request = self._requests.decode(record.value)
        if request.upload.video_id != video_id or request.upload.media_uri is None:
            raise InvalidRecord("impossible", f"key {video_id!r} is not the video, or its upload has no media_uri")
        return request

    async def process(self, items: Sequence[Item[MediaRequest]]) -> Effects:
        """Look at the videos and annotate them."""
        newest: dict[str, MediaRequest] = {}
        for _, request in items:
            known = newest.setdefault(request.upload.video_id, request)
            if known is not request and _content_ms(request) >= _content_ms(known):
                newest[request.upload.video_id] = request
        requests = list(newest.values())
        looks = await self._looker.look([request.upload for request in requests])
        uploads = [look.beside(request.upload) for request, look in zip(requests, looks, strict=True)]
        student = self._students.current
        scores = await student.score_seen([upload_text(one) for one in uploads], [look.seen for look in looks])
        annotations: list[Annotation] = []
        reviews: list[ReviewRequest] = []
        for i, (request, look) in enumerate(zip(requests, looks, strict=True)):
            attributes = decide(scores.probability[i], student.bands, student.ids, student.certified)
            uncertain = tuple(name for name, score in attributes.items() if score.label is None)
            annotation = annotated(
                request.upload,
                student,
                scores.embedding[i].tobytes(),
                attributes,
                received_ms=request.received_at_ms,
                now_ms=now_ms(),
                provisional=bool(uncertain),
                media=used_by(student, look),
            )
            annotations.append(annotation)
            if uncertain:  # the LLM reads what was read and heard in the video too
                review = ReviewRequest(
                    schema_version=1,
                    upload=uploads[i],
                    annotation=annotation,
                    attributes=uncertain,
                    certified_with=student.certified_with,
                )
                reviews.append(review)

        def confirm() -> None:
            for annotation in annotations:
                metrics.ANNOTATED.labels("student", annotation.status).inc()
            count_decisions(student, scores.probability)

        return Effects(
            messages=[
                *(Message(self._annotations, one.video_id.encode(), encode(one)) for one in annotations),
                *(Message(self._review_requests, one.upload.video_id.encode(), encode(one)) for one in reviews),
            ],
            confirm=confirm,
        )

    async def close(self) -> None:
        """Free student and looker."""
        await self._looker.close()
        await self._students.close()


def used_by(student: Student, look: Look) -> Media:
    """Return what the annotation says of the video: only what this student has an input for was used."""
    media = look.media
    if media.status != "used":
        return media
    frames = media.frames if student.frames else 0
    sound = media.sound and student.sound is not None
    if frames or sound or media.on_screen or media.heard:
        return msgspec.structs.replace(media, frames=frames, sound=sound)
    why = media.reason or f"nothing in it that student {student.version.name} {student.version.version} reads"
    return Media("unreadable", why)


def _content_ms(request: MediaRequest) -> int:
    return min(request.upload.uploaded_at_ms, request.received_at_ms)
