"""The attribute table: one row per video, columns from the catalogue."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.annotation import Annotation
from schemas.attributes import Catalogue
from schemas.errors import InvalidRecord

_NOT_FINITE = bytes(high for high in range(256) if high & 0x7C == 0x7C)
"""The high bytes of float16 NaNs and infinities: all bits of the exponent are set."""
_PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}


def attribute_schema(catalogue: Catalogue, dim: int) -> pa.Schema:
    """Return the columns of the attribute table for embeddings of `dim` dimensions.

    Per attribute of the catalogue `p_<id>` is the student's probability, `label_<id>` the decision, null while it is
    open, and `certified_<id>` whether the label may be relied on: its attribute is certified and the annotation claims
    its guarantee; null in rows from before there were certificates, which is not certified. `video_id` carries Lance's
    mark of an unenforced primary key.
    """
    return pa.schema(
        [
            pa.field("video_id", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
            pa.field("seq", pa.int64(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("creator_id", pa.string()),
            pa.field("language", pa.string()),
            pa.field("uploaded_at_ms", pa.int64()),
            pa.field("duration_ms", pa.int64()),
            pa.field("received_at_ms", pa.int64(), nullable=False),
            pa.field("stored_at_ms", pa.int64(), nullable=False),
            pa.field("student", pa.string()),
            pa.field("annotator", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("vector", pa.list_(pa.float16(), dim)),
            *(pa.field(f"p_{attribute}", pa.float32()) for attribute in catalogue.ids),
            *(pa.field(f"label_{attribute}", pa.bool_()) for attribute in catalogue.ids),
            *(pa.field(f"certified_{attribute}", pa.bool_()) for attribute in catalogue.ids),
        ]
    )


def check_annotation(annotation: Annotation, catalogue: Catalogue, dim: int) -> None:
    """Check that the table can hold `annotation`. One that removes its video always fits.

    Raises:
        InvalidRecord: impossible: an attribute that the catalogue never had, or an embedding that is not `dim`
            finite float16 numbers.

    """
    if annotation.status == "removed":
        return
    unknown = catalogue.unknown(annotation.attributes)
    if unknown:
        raise InvalidRecord(
            "impossible",
            f"video {annotation.video_id!r}: attributes {', '.join(unknown)} are not in the catalogue of this"
            " store; run annotate and store with the same catalogue, or list them there as retired",
        )
    embedding = annotation.embedding
    if embedding is None:
        return
    if len(embedding) != 2 * dim:
        raise InvalidRecord(
            "impossible",
            f"video {annotation.video_id!r}: embedding of {len(embedding)} bytes, but {dim} float16 are {2 * dim};"
            " run annotate and store with the same student",
        )
    if len(embedding[1::2].translate(None, _NOT_FINITE)) != dim:
        raise InvalidRecord("impossible", f"video {annotation.video_id!r}: embedding holds NaN or infinity")


def to_table(annotations: Sequence[Annotation], catalogue: Catalogue, dim: int, stored_at_ms: int) -> pa.Table:
    """Return one row per annotation, in order; all of them have passed `check_annotation`.

    A removed video keeps its row, so that a late annotation of lower seq can't bring it back, but no attributes and
    no vector.
    """
    schema = attribute_schema(catalogue, dim)
    scores = [{} if a.status == "removed" else a.attributes for a in annotations]
    columns: list[object] = [
        [a.video_id for a in annotations],
        [a.seq for a in annotations],
        [a.status for a in annotations],
        [a.creator_id for a in annotations],
        [a.language for a in annotations],
        [a.uploaded_at_ms for a in annotations],
        [a.duration_ms for a in annotations],
        [a.received_at_ms for a in annotations],
        [stored_at_ms] * len(annotations),
        [_student(a) for a in annotations],
        [_annotator(a) for a in annotations],
        [a.reason for a in annotations],
        _vectors(annotations, dim),
    ]
    by_attribute = [[of.get(attribute) for of in scores] for attribute in catalogue.ids]
    columns.extend([score and score.p for score in one] for one in by_attribute)
    columns.extend([score and score.label for score in one] for one in by_attribute)
    relinquished = [row for row, annotation in enumerate(annotations) if annotation.guarantee is False]
    for one in by_attribute:
        certified = [score and score.certified for score in one]
        for row in relinquished:
            certified[row] = certified[row] and False  # None stays None: from before there were certificates
        columns.append(certified)
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _student(annotation: Annotation) -> str | None:
    student = annotation.student
    return None if student is None else f"{student.name}@{student.version}"


def _annotator(annotation: Annotation) -> str | None:
    by = annotation.annotator
    return None if by is None else f"{by.kind}/{by.model} {by.prompt}@{by.prompt_version}"


def _vectors(annotations: Sequence[Annotation], dim: int) -> pa.Array:
    """Lay the embeddings end to end, zeros under the nulls: no number is touched in Python."""
    embeddings = [None if a.status == "removed" else a.embedding for a in annotations]
    zeros = bytes(2 * dim)
    values = np.frombuffer(b"".join(zeros if e is None else e for e in embeddings), "<f2")
    missing = pa.array([e is None for e in embeddings], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float16()), dim, mask=missing)
