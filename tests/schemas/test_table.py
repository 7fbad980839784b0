import numpy as np
import pyarrow as pa
import pytest

from schemas.annotation import Annotation, AnnotatorVersion, AttributeScore, StudentVersion
from schemas.errors import InvalidRecord
from schemas.table import attribute_schema, check_annotation, to_table
from tests.fakes.attributes import catalogue

DIM = 4
NOW = 1_800_000_000_000
CATALOGUE = catalogue("calm", "funny")


def embedding(*values: float) -> bytes:
    return np.array(values, "<f2").tobytes()


def annotation(**changes) -> Annotation:
    fields = {
        "schema_version": 1,
        "video_id": "v1",
        "status": "final",
        "received_at_ms": NOW,
        "annotated_at_ms": NOW + 5,
    }
    return Annotation(**fields | changes)


FULL = annotation(
    creator_id="c1",
    uploaded_at_ms=NOW - 10,
    language="de",
    duration_ms=9_000,
    attributes={"funny": AttributeScore(0.75, "accept", True, "student")},
    embedding=embedding(0.5, -0.5, 0.5, 0.5),
    student=StudentVersion("vibe", 3),
    annotator=AnnotatorVersion("gemini", "flash", "rubric", 2, "abc"),
    reason="declined: blocked",
)


def test_every_attribute_of_the_catalogue_has_a_probability_a_label_and_a_certificate_column():
    schema = attribute_schema(CATALOGUE, DIM)

    assert schema.names[-6:-2] == ["p_calm", "p_funny", "label_calm", "label_funny"]
    assert schema.names[-2:] == ["certified_calm", "certified_funny"]
    assert schema.field("certified_funny").nullable
    assert schema.field("p_funny").type == pa.float32()
    assert schema.field("label_funny").type == pa.bool_()
    assert schema.field("vector").type == pa.list_(pa.float16(), DIM)


def test_a_full_annotation_fills_its_columns():
    [row] = to_table([FULL], CATALOGUE, DIM, NOW + 9).to_pylist()

    assert row == {
        "video_id": "v1",
        "seq": FULL.seq,
        "status": "final",
        "creator_id": "c1",
        "language": "de",
        "uploaded_at_ms": NOW - 10,
        "duration_ms": 9_000,
        "received_at_ms": NOW,
        "stored_at_ms": NOW + 9,
        "student": "vibe@3",
        "annotator": "gemini/flash rubric@2",
        "reason": "declined: blocked",
        "vector": [0.5, -0.5, 0.5, 0.5],
        "p_calm": None,
        "p_funny": 0.75,
        "label_calm": None,
        "label_funny": True,
        "certified_calm": None,
        "certified_funny": None,
    }


@pytest.mark.parametrize(
    ("certified", "guarantee", "stored"),
    [(True, None, True), (True, True, True), (True, False, False), (False, None, False), (None, False, None)],
)
def test_a_label_counts_as_certified_only_under_the_guarantee_of_its_annotation(certified, guarantee, stored):
    score = AttributeScore(0.75, "accept", True, "student", certified=certified)

    [row] = to_table([annotation(attributes={"calm": score}, guarantee=guarantee)], CATALOGUE, DIM, NOW).to_pylist()

    assert row["certified_calm"] is stored


def test_what_an_annotation_lacks_is_null():
    table = to_table([annotation()], CATALOGUE, DIM, NOW)

    [row] = table.to_pylist()
    filled = {name for name, value in row.items() if value is not None}
    assert filled == {"video_id", "seq", "status", "received_at_ms", "stored_at_ms"}


def test_an_open_label_is_null_beside_its_probability():
    open_score = AttributeScore(0.5, "uncertain", None, "student")

    [row] = to_table([annotation(attributes={"calm": open_score})], CATALOGUE, DIM, NOW).to_pylist()

    assert (row["p_calm"], row["label_calm"]) == (0.5, None)


def test_a_missing_embedding_does_not_shift_the_others():
    first, last = embedding(1, 0, 0, 0), embedding(0, 0, 0, 1)

    table = to_table([annotation(embedding=first), annotation(), annotation(embedding=last)], CATALOGUE, DIM, NOW)

    assert table["vector"].to_pylist() == [[1, 0, 0, 0], None, [0, 0, 0, 1]]


def test_a_removed_video_keeps_its_seq_and_nothing_that_retrieval_could_find():
    certified = {"funny": AttributeScore(0.75, "accept", True, "student", certified=True)}
    removed = annotation(status="removed", attributes=certified, embedding=FULL.embedding)

    [row] = to_table([removed], CATALOGUE, DIM, NOW).to_pylist()

    assert (row["status"], row["seq"]) == ("removed", removed.seq)
    assert [row[name] for name in ("vector", "p_funny", "label_funny", "certified_funny")] == [None] * 4


def test_no_annotations_make_an_empty_table():
    assert to_table([], CATALOGUE, DIM, NOW).schema == attribute_schema(CATALOGUE, DIM)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"attributes": {"tasty": AttributeScore(0.5, "accept", True, "student")}}, "tasty"),
        ({"embedding": embedding(1, 0, 0)}, "6 bytes, but 4 float16 are 8"),
        ({"embedding": b""}, "0 bytes"),
        ({"embedding": embedding(1, 0, 0, np.nan)}, "NaN"),
        ({"embedding": embedding(1, 0, 0, -np.inf)}, "infinity"),
    ],
)
def test_what_the_table_can_not_hold_is_impossible(bad, message):
    with pytest.raises(InvalidRecord, match=message) as caught:
        check_annotation(annotation(**bad), CATALOGUE, DIM)

    assert caught.value.kind == "impossible"


def test_a_removal_is_never_refused():
    check_annotation(
        annotation(
            status="removed", attributes={"tasty": AttributeScore(0.5, "accept", True, "student")}, embedding=b"x"
        ),
        CATALOGUE,
        DIM,
    )
