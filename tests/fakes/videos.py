"""A small catalogue, and annotations and watches of it with only what a test cares about."""

import numpy as np

from schemas.annotation import Annotation, AttributeScore, StudentVersion
from schemas.attributes import Attribute, Catalogue
from schemas.events import WatchEvent

DIM = 8
NOW_MS = 1_750_000_000_000


def _attribute(attribute_id: str, *, policy: bool = False) -> Attribute:
    return Attribute(
        id=attribute_id,
        name=attribute_id,
        version=1,
        definition=attribute_id,
        includes=("a",),
        positive_examples=("a",),
        target_precision=0.8,
        target_recall=0.7,
        policy=policy,
    )


CATALOGUE = Catalogue(
    (_attribute("calm"), _attribute("eerie"), _attribute("funny"), _attribute("hostile", policy=True))
)


def direction(angle: float) -> np.ndarray:
    vector = np.zeros(DIM)
    vector[0], vector[1] = np.cos(angle), np.sin(angle)
    return vector


def annotation(
    video_id: str,
    labels: dict[str, bool | None] | None = None,
    *,
    p: float = 0.5,
    vector: np.ndarray | None = None,
    has_vector: bool = True,
    creator: str | None = None,
    uploaded_at_ms: int = NOW_MS - 1_000,
    received_at_ms: int = NOW_MS,
    student: int = 1,
    certified: bool | None = True,
    guarantee: bool | None = None,
) -> Annotation:
    """Policy absent unless `labels` says otherwise."""
    embedding = direction(0.0) if vector is None else vector
    return Annotation(
        schema_version=1,
        video_id=video_id,
        status="final",
        received_at_ms=received_at_ms,
        annotated_at_ms=received_at_ms,
        creator_id=creator,
        uploaded_at_ms=uploaded_at_ms,
        language="en",
        attributes={
            attribute: AttributeScore(p=p, band="accept", label=label, source="student", certified=certified)
            for attribute, label in ({"hostile": False} | (labels or {})).items()
        },
        embedding=embedding.astype("<f2").tobytes() if has_vector else None,
        student=StudentVersion("student", student),
        guarantee=guarantee,
    )


def removal(video_id: str, received_at_ms: int = NOW_MS + 1) -> Annotation:
    return Annotation(
        schema_version=1,
        video_id=video_id,
        status="removed",
        received_at_ms=received_at_ms,
        annotated_at_ms=received_at_ms,
    )


def watch(
    video_id: str = "v",
    *,
    event_id: str = "e",
    user_id: str = "u",
    session_id: str = "s",
    watched_at_ms: int = NOW_MS,
    watch_ms: int = 20_000,
    duration_ms: int = 20_000,
    **feedback: bool,
) -> WatchEvent:
    return WatchEvent(
        schema_version=1,
        event_id=event_id,
        user_id=user_id,
        session_id=session_id,
        video_id=video_id,
        watched_at_ms=watched_at_ms,
        watch_ms=watch_ms,
        duration_ms=duration_ms,
        **feedback,
    )
