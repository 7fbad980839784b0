from tempfile import TemporaryDirectory

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.annotation import Annotation
from schemas.table import to_table
from streams.attribute_table import AttributeTable
from streams.database import Database
from tests.fakes.attributes import CATALOGUE, DIM, LLM, T0, annotation, contents, upsert

PROVISIONAL = annotation(status="provisional", funny=None)
FINAL = annotation(by=LLM)
REMOVED = annotation(status="removed", at=T0 + 1)


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
    reader = AttributeTable.open(Database(str(tmp_path)), CATALOGUE, DIM)

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
        table = AttributeTable.open(Database(directory), CATALOGUE, DIM)
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
