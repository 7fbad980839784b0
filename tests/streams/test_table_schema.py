import lancedb
import pyarrow as pa
import pytest
from msgspec import structs

from schemas.annotation import Annotation, AttributeScore
from schemas.errors import ConfigurationError
from schemas.table import attribute_schema, to_table
from streams.attribute_table import AttributeTable
from streams.database import Database
from tests.fakes.attributes import CATALOGUE, DIM, T0, WIDER, annotation, catalogue, contents, upsert


def test_a_table_of_another_dimension_is_refused(table, tmp_path):
    difference = r"column vector is fixed_size_list<item: halffloat>\[16\], not .*\[32\]"
    with pytest.raises(ConfigurationError, match=difference) as caught:
        AttributeTable.open(Database(str(tmp_path)), CATALOGUE, 32)

    assert str(tmp_path) in str(caught.value)
    assert "replay the annotations topic" in str(caught.value)


def test_a_required_column_that_is_missing_is_refused(tmp_path):
    lancedb.connect(tmp_path).create_table("attributes", schema=attribute_schema(CATALOGUE, DIM).remove(1))

    with pytest.raises(ConfigurationError, match="column seq is missing and can't be null"):
        AttributeTable.open(Database(str(tmp_path)), CATALOGUE, DIM)


def test_a_table_without_a_primary_key_is_refused(tmp_path):
    schema = attribute_schema(CATALOGUE, DIM)
    plain = schema.set(0, schema.field(0).remove_metadata())
    lancedb.connect(tmp_path).create_table("attributes", schema=plain)

    with pytest.raises(ConfigurationError, match="not marked as the primary key"):
        AttributeTable.open(Database(str(tmp_path)), CATALOGUE, DIM)


def wider_annotation(video_id: str, at: int, p: float) -> pa.Table:
    score = AttributeScore(p, "accept", True, "student")
    one = structs.replace(annotation(video_id, at=at), attributes={"tasty": score})
    return to_table([one], WIDER, DIM, T0)


def test_an_old_writer_goes_on_beside_one_whose_catalogue_gained_an_attribute(table, tmp_path):
    upsert(table, annotation("v1"), annotation("v2"))

    new = AttributeTable.open(Database(str(tmp_path)), WIDER, DIM)
    new.upsert(wider_annotation("v1", T0 + 1, 0.25))
    new.upsert(wider_annotation("v2", T0 + 1, 0.5))
    upsert(table, annotation("v2", at=T0 + 2), annotation("v3"))

    assert [(r["video_id"], r["p_tasty"], r["p_funny"]) for r in contents(new)] == [
        ("v1", 0.25, None),
        ("v2", None, 0.5),
        ("v3", None, 0.5),
    ]
    assert new.rows() == table.rows() == (3, 3, 0)


def test_a_retired_attribute_keeps_its_column_and_is_null_in_new_rows(table, tmp_path):
    upsert(table, annotation("v1"), annotation("v2"))

    narrower = AttributeTable.open(Database(str(tmp_path)), catalogue("calm"), DIM)
    later = structs.replace(annotation("v2", at=T0 + 1), attributes={})
    narrower.upsert(to_table([later], catalogue("calm"), DIM, T0))

    assert [(r["video_id"], r["p_funny"]) for r in contents(table)] == [("v1", 0.5), ("v2", None)]


def test_opening_to_read_writes_nothing_and_reads_new_attributes_as_null(table, tmp_path):
    upsert(table, annotation("v1"))
    before = sorted(tmp_path.rglob("*"))

    reader = AttributeTable.open_existing(Database(str(tmp_path)), WIDER, DIM)

    assert reader is not None
    [batch] = reader.read(["p_tasty", "video_id", "label_tasty"])
    assert batch.to_pylist() == [{"p_tasty": None, "video_id": "v1", "label_tasty": None}]
    assert sorted(tmp_path.rglob("*")) == before


def test_opening_to_read_does_not_create(tmp_path):
    assert AttributeTable.open_existing(Database(str(tmp_path / "none")), CATALOGUE, DIM) is None
    assert not (tmp_path / "none" / "attributes.lance").exists()


def test_a_store_from_before_there_were_certificates_gains_them_beside_a_writer_that_knows_none(tmp_path):
    def without(*annotations: Annotation) -> pa.Table:
        table = to_table(annotations, CATALOGUE, DIM, T0)
        return table.drop_columns([name for name in table.column_names if name.startswith("certified_")])

    database = Database(str(tmp_path))
    old = AttributeTable(database.create("attributes", without().schema), "attributes", database, CATALOGUE, DIM)
    old.upsert(without(annotation("v1"), annotation("v2")))

    new = AttributeTable.open(Database(str(tmp_path)), CATALOGUE, DIM)
    score = AttributeScore(0.5, "accept", True, "student", certified=True)
    for video_id in ("v2", "v3"):
        later = structs.replace(annotation(video_id, at=T0 + 1), attributes={"funny": score})
        new.upsert(to_table([later], CATALOGUE, DIM, T0))
    old.upsert(without(annotation("v3", at=T0 + 2)))

    assert [(row["video_id"], row["certified_funny"]) for row in contents(new)] == [
        ("v1", None),
        ("v2", True),
        ("v3", None),
    ]
