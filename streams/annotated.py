"""What the student makes of an upload, as it is written to annotations."""

from collections.abc import Mapping

from models.student import Student
from schemas.annotation import Annotation, AttributeScore, Media
from schemas.events import VideoUpload


def annotated(
    upload: VideoUpload,
    student: Student,
    embedding: bytes,
    attributes: Mapping[str, AttributeScore] | None = None,
    *,
    received_ms: int,
    now_ms: int,
    provisional: bool,
    media: Media | None = None,
) -> Annotation:
    """Return the student's annotation; without `attributes` they are for the caller to write, see `encode_with`."""
    return Annotation(
        schema_version=1,
        video_id=upload.video_id,
        status="provisional" if provisional else "final",
        received_at_ms=received_ms,
        annotated_at_ms=now_ms,
        creator_id=upload.creator_id,
        uploaded_at_ms=upload.uploaded_at_ms,
        language=upload.language,
        duration_ms=upload.duration_ms,
        attributes=dict(attributes or {}),
        embedding=embedding,
        student=student.version,
        media=media,
    )
