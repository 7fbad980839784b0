"""The annotations that the benchmarks of the store write: every attribute decided, a vector, one student."""

import numpy as np

from models.bundle import default_bundle, load_manifest
from schemas.annotation import Annotation, AttributeScore, StudentVersion
from schemas.attributes import load_catalogue

AT_MS = 1_800_000_000_000
CATALOGUE, DIM = load_catalogue(), load_manifest(default_bundle()).dim
_SCORES = {attribute: AttributeScore(0.5, "accept", True, "student") for attribute in CATALOGUE.ids}
_EMBEDDING = np.full(DIM, DIM**-0.5, "<f2").tobytes()


def annotation(video_id: str, at_ms: int) -> Annotation:
    return Annotation(
        schema_version=1,
        video_id=video_id,
        status="final",
        received_at_ms=at_ms,
        annotated_at_ms=at_ms,
        attributes=_SCORES,
        embedding=_EMBEDDING,
        student=StudentVersion("nano", 1),
    )
