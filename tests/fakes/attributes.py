"""A small catalogue, annotations that differ only in what a test of the store cares about, and the rows they become."""

import numpy as np

from schemas.annotation import Annotation, AnnotatorVersion, AttributeScore, StudentVersion
from schemas.attributes import Attribute, Catalogue
from schemas.table import to_table
from streams.attribute_store import AttributeStore
from streams.attribute_table import AttributeTable

DIM = 16
T0 = 1_800_000_000_000
STUDENT = StudentVersion("vibe", 1)
LLM = AnnotatorVersion("gemini", "flash", "rubric", 1, "abc")


def catalogue(*ids: str) -> Catalogue:
    return Catalogue(
        tuple(
            Attribute(
                id=i,
                name=i,
                version=1,
                definition="d",
                includes=("i",),
                positive_examples=("p",),
                target_precision=0.9,
                target_recall=0.9,
            )
            for i in ids
        )
    )


CATALOGUE = catalogue("calm", "funny")
WIDER = catalogue("calm", "funny", "tasty")


def annotation(video_id="v1", status="final", at=T0, *, funny: bool | None = True, by=None, vector=None) -> Annotation:
    return Annotation(
        schema_version=1,
        video_id=video_id,
        status=status,
        received_at_ms=at,
        annotated_at_ms=at,
        attributes={"funny": AttributeScore(0.5, "uncertain", funny, "student")},
        embedding=None if vector is None else np.asarray(vector, "<f2").tobytes(),
        student=STUDENT,
        annotator=by,
    )


def upsert(table: AttributeTable | AttributeStore, *annotations: Annotation) -> int:
    return table.upsert(to_table(annotations, CATALOGUE, DIM, T0))


def contents(table: AttributeTable | AttributeStore) -> list[dict]:
    rows = [row for batch in table.read() for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: row["video_id"])
