import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from threading import Barrier

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lancedb.index import BTree
from msgspec import structs

from schemas.annotation import Annotation, AnnotatorVersion, AttributeScore, StudentVersion
from schemas.attributes import Attribute, Catalogue
from schemas.errors import ConfigurationError, DamagedTable, StoreUnavailable
from schemas.table import attribute_schema, to_table
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


PROVISIONAL = annotation(status="provisional", funny=None)
FINAL = annotation(by=LLM)
REMOVED = annotation(status="removed", at=T0 + 1)


@pytest.fixture
def table(tmp_path) -> AttributeTable:
    return AttributeTable.open(str(tmp_path), CATALOGUE, DIM)


def upsert(table: AttributeTable, *annotations: Annotation) -> int:
    return table.upsert(to_table(annotations, CATALOGUE, DIM, T0))


def contents(table: AttributeTable) -> list[dict]:
    rows = [row for batch in table.read() for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: row["video_id"])


def test_the_same_batch_twice_is_stored_once(table):
    batch = [annotation("v1"), annotation("v2")]

    changed = [upsert(table, *batch), upsert(table, *batch)]

    assert changed == [2, 0]
    assert table.rows() == (2, 2, 0)


@pytest.mark.parametrize("in_one_batch", [False, True])
@pytest.mark.parametrize(
    ("annotations", "winner"),
    [
        ([PROVISIONAL, FINAL], FINAL),
        ([FINAL, PROVISIONAL], FINAL),
        ([FINAL, REMOVED], REMOVED),
        ([PROVISIONAL, REMOVED, FINAL], REMOVED),
        ([FINAL, REMOVED, annotation(at=T0 + 2, funny=False)], annotation(at=T0 + 2, funny=False)),
        ([FINAL, annotation(at=T0 + 2, status="provisional")], annotation(at=T0 + 2, status="provisional")),
    ],
    ids=[
        "a final replaces the provisional",
        "a late provisional loses to the final",
        "a removal wins",
        "a late final does not bring a removed video back",
        "a new upload brings a removed video back",
        "newer content counts though it is provisional",
    ],
)
def test_the_annotation_of_highest_seq_wins(table, annotations, winner, in_one_batch):
    for batch in [annotations] if in_one_batch else [[a] for a in annotations]:
        upsert(table, *batch)

    assert contents(table) == to_table([winner], CATALOGUE, DIM, T0).to_pylist()


def test_removed_videos_are_counted_apart(table):
    upsert(table, annotation("v1"), annotation("v2", status="removed"), annotation("v3", status="removed"))

    assert table.rows() == (3, 3, 2)


def test_vectors_and_missing_vectors_share_a_batch(table):
    vector = np.eye(DIM)[3]

    upsert(table, annotation("v1", vector=vector), annotation("v2"))

    assert [row["vector"] for row in contents(table)] == [vector.tolist(), None]


def test_reading_some_columns_leaves_out_the_rest(table):
    upsert(table, annotation())

    [batch] = table.read(["video_id", "label_funny"])

    assert batch.to_pylist() == [{"video_id": "v1", "label_funny": True}]


def test_a_second_handle_sees_every_write_at_once(table, tmp_path):
    reader = AttributeTable.open(str(tmp_path), CATALOGUE, DIM)

    for count in (1, 2, 3):
        upsert(table, annotation(f"v{count}"))
        assert reader.rows().rows == len(contents(reader)) == count


def test_vector_search_is_restricted_to_an_attribute(table, tmp_path):
    vectors = np.random.default_rng(0).standard_normal((300, DIM))
    videos = [annotation(f"v{i}", vector=vectors[i], funny=i % 100 == 0) for i in range(300)]
    upsert(table, *videos, annotation("unembedded"), annotation("removed", status="removed", vector=vectors[0]))

    found = (
        lancedb.connect(tmp_path)
        .open_table("attributes")
        .search(vectors[1].astype(np.float16), vector_column_name="vector")
        .where("label_funny = true and status != 'removed'", prefilter=True)
        .select(["video_id", "_distance"])
        .limit(3)
        .to_list()
    )

    nearest = sorted((0, 100, 200), key=lambda i: float(np.square(vectors[i] - vectors[1]).sum()))
    assert [row["video_id"] for row in found] == [f"v{i}" for i in nearest]


def test_compaction_bounds_the_fragments_of_many_small_merges(table):
    most = 0
    for i in range(200):
        upsert(table, annotation(f"v{i}"), annotation(f"v{i // 2}", at=T0 + i))
        most = max(most, table.fragments())
        if i % 20 == 19:
            table.compact()

    assert table.fragments() <= 2
    assert 10 < most <= 22
    assert table.rows() == (200, 200, 0)


def test_a_reader_on_an_older_version_survives_a_compaction(table, tmp_path):
    for i in range(10):
        upsert(table, annotation(f"v{i}"))
    stale = lancedb.connect(tmp_path).open_table("attributes")

    table.compact()
    upsert(table, annotation("later"))

    assert stale.to_arrow().num_rows == 10


@pytest.mark.parametrize("indexed", [False, True])
def test_two_writers_that_overlap_store_no_video_twice(table, tmp_path, indexed):
    barrier = Barrier(2)
    upsert(table, *[annotation(f"old{i}") for i in range(500)])
    if indexed:
        lancedb.connect(tmp_path).open_table("attributes").create_index("video_id", config=BTree())

    def write() -> int:
        mine = AttributeTable.open(str(tmp_path), CATALOGUE, DIM)
        changed = 0
        for i in range(15):
            barrier.wait(timeout=60)
            changed += upsert(mine, *[annotation(f"v{i}-{j}") for j in range(8)])
        return changed

    with ThreadPoolExecutor(2) as pool:
        changed = [future.result() for future in [pool.submit(write) for _ in range(2)]]

    assert sum(changed) == 120
    assert table.rows() == (620, 620, 0)


def test_a_table_of_another_dimension_is_refused(table, tmp_path):
    difference = r"column vector is fixed_size_list<item: halffloat>\[16\], not .*\[32\]"
    with pytest.raises(ConfigurationError, match=difference) as caught:
        AttributeTable.open(str(tmp_path), CATALOGUE, 32)

    assert str(tmp_path) in str(caught.value)
    assert "replay the annotations topic" in str(caught.value)


def test_a_required_column_that_is_missing_is_refused(tmp_path):
    lancedb.connect(tmp_path).create_table("attributes", schema=attribute_schema(CATALOGUE, DIM).remove(1))

    with pytest.raises(ConfigurationError, match="column seq is missing and can't be null"):
        AttributeTable.open(str(tmp_path), CATALOGUE, DIM)


def wider_annotation(video_id: str, at: int, p: float) -> pa.Table:
    score = AttributeScore(p, "accept", True, "student")
    one = structs.replace(annotation(video_id, at=at), attributes={"tasty": score})
    return to_table([one], WIDER, DIM, T0)


WIDER = catalogue("calm", "funny", "tasty")


def test_an_old_writer_goes_on_beside_one_whose_catalogue_gained_an_attribute(table, tmp_path):
    upsert(table, annotation("v1"), annotation("v2"))

    new = AttributeTable.open(str(tmp_path), WIDER, DIM)
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

    narrower = AttributeTable.open(str(tmp_path), catalogue("calm"), DIM)
    later = structs.replace(annotation("v2", at=T0 + 1), attributes={})
    narrower.upsert(to_table([later], catalogue("calm"), DIM, T0))

    assert [(r["video_id"], r["p_funny"]) for r in contents(table)] == [("v1", 0.5), ("v2", None)]


def test_openers_that_race_create_and_widen_one_table(tmp_path):
    barrier = Barrier(4)

    def open_(catalogue: Catalogue) -> AttributeTable:
        barrier.wait(timeout=60)
        return AttributeTable.open(str(tmp_path), catalogue, DIM)

    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(open_, [CATALOGUE, WIDER, CATALOGUE, WIDER]))

    for i, one in enumerate(opened):
        assert one.upsert(to_table([annotation(f"v{i}")], one.catalogue, DIM, T0)) == 1
    assert opened[0].rows() == (4, 4, 0)


def test_opening_to_read_writes_nothing_and_reads_new_attributes_as_null(table, tmp_path):
    upsert(table, annotation("v1"))
    before = sorted(tmp_path.rglob("*"))

    reader = AttributeTable.open_existing(str(tmp_path), WIDER, DIM)

    assert reader is not None
    [batch] = reader.read(["p_tasty", "video_id", "label_tasty"])
    assert batch.to_pylist() == [{"p_tasty": None, "video_id": "v1", "label_tasty": None}]
    assert sorted(tmp_path.rglob("*")) == before


def test_opening_to_read_does_not_create(tmp_path):
    assert AttributeTable.open_existing(str(tmp_path / "none"), CATALOGUE, DIM) is None
    assert not (tmp_path / "none" / "attributes.lance").exists()


def test_a_zombie_writer_neither_wins_nor_duplicates(table, tmp_path):
    zombie = AttributeTable.open(str(tmp_path), CATALOGUE, DIM)
    upsert(zombie, annotation("v0"))
    late = [annotation(f"v{i}", "provisional", funny=None) for i in range(60)]
    for i in range(40):
        upsert(table, annotation(f"v{i}", at=T0 + 1), annotation(f"w{i}"))
    table.compact()

    changed = upsert(zombie, *late)

    assert changed == 20  # only the videos nobody has stored since
    assert table.rows() == (100, 100, 0)
    finals = {row["video_id"] for row in contents(table) if row["status"] == "final" and row["video_id"][0] == "v"}
    assert finals == {f"v{i}" for i in range(40)}


def newest_manifest(root: Path) -> Path:
    return min((root / "attributes.lance" / "_versions").glob("*.manifest"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_file(root: Path, folder: str) -> Path:
    return min((root / "attributes.lance" / folder).iterdir())


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda root: truncate(newest_manifest(root)), "its newest manifest can't be read"),
        (lambda root: newest_manifest(root).write_bytes(b""), "its newest manifest can't be read"),
        (lambda root: rmtree(root / "attributes.lance" / "_versions"), "no manifest"),
        (lambda root: a_file(root, "data").unlink(), "gone or cut short.*data/"),
        (lambda root: truncate(a_file(root, "data")), "gone or cut short"),
        (lambda root: a_file(root, "_deletions").unlink(), "gone or cut short.*_deletions/"),
    ],
    ids=["manifest cut", "manifest empty", "no manifest", "data gone", "data cut", "deletions gone"],
)
@pytest.mark.parametrize("open_", [AttributeTable.open, AttributeTable.open_existing])
def test_a_damaged_table_is_refused_with_what_is_damaged_and_what_to_do(table, tmp_path, damage, says, open_):
    upsert(table, annotation("v1"), annotation("v2"))
    upsert(table, annotation("v1", at=T0 + 1))
    damage(tmp_path)

    with pytest.raises(DamagedTable, match=says) as caught:
        open_(str(tmp_path), CATALOGUE, DIM)

    assert "vibestream store restore" in str(caught.value)
    assert f"{tmp_path}/attributes.lance" in str(caught.value)


def test_a_store_that_does_not_answer_is_unavailable_after_the_deadline(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k3y")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = {"aws_endpoint": endpoint, "allow_http": "true", "aws_region": "us-east-1"}
        with pytest.raises(StoreUnavailable, match=r"s3://bucket/store within 0\.5 s") as caught:
            AttributeTable.open("s3://bucket/store", CATALOGUE, DIM, storage_options=options, deadline_s=0.5)

    assert "s3cret" not in str(caught.value)


def test_a_table_without_a_primary_key_is_refused(tmp_path):
    schema = attribute_schema(CATALOGUE, DIM)
    plain = schema.set(0, schema.field(0).remove_metadata())
    lancedb.connect(tmp_path).create_table("attributes", schema=plain)

    with pytest.raises(ConfigurationError, match="not marked as the primary key"):
        AttributeTable.open(str(tmp_path), CATALOGUE, DIM)


def test_a_store_that_is_gone_is_unavailable_in_every_call(table, tmp_path):
    upsert(table, annotation())
    rmtree(tmp_path / "attributes.lance")

    for call in (lambda: upsert(table, annotation("v2")), table.compact, table.fragments, table.rows):
        with pytest.raises(StoreUnavailable, match=f"{tmp_path}.*Check that"):
            call()
    with pytest.raises(StoreUnavailable):
        next(table.read())


def test_an_address_that_can_not_be_written_is_unavailable(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnavailable, match="can't open the attribute table"):
        AttributeTable.open(str(tmp_path / "file" / "store"), CATALOGUE, DIM)


def annotations() -> st.SearchStrategy[Annotation]:
    return st.builds(
        annotation,
        st.sampled_from(["v1", "v2", "v3"]),
        st.sampled_from(["provisional", "final", "removed"]),
        st.integers(T0, T0 + 2),
        by=st.sampled_from([None, LLM]),
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(annotations(), min_size=1, max_size=5), min_size=1, max_size=4), st.randoms())
def test_any_order_and_repetition_ends_in_the_highest_seq_per_video(batches, random):
    with TemporaryDirectory() as directory:
        table = AttributeTable.open(str(Path(directory)), CATALOGUE, DIM)
        repeated = [*batches, random.choice(batches)]
        random.shuffle(repeated)
        for batch in repeated:
            upsert(table, *batch)

        stored = pa.Table.from_batches(table.read(["video_id", "seq", "status"])).to_pylist()

    newest: dict[str, Annotation] = {}
    for each in (a for batch in batches for a in batch):
        if each.video_id not in newest or each.seq > newest[each.video_id].seq:
            newest[each.video_id] = each
    assert sorted((row["video_id"], row["seq"], row["status"]) for row in stored) == sorted(
        (a.video_id, a.seq, a.status) for a in newest.values()
    )
