import itertools

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from prometheus_client import REGISTRY

from schemas.errors import ConfigurationError
from schemas.table import attribute_schema, to_table
from streams.snapshot import Snapshot
from tests.fakes.videos import CATALOGUE, DIM, NOW_MS, annotation, direction, removal


def loaded(*annotations, catalogue=CATALOGUE) -> Snapshot:
    snapshot = Snapshot(catalogue, DIM)
    table = to_table(annotations, catalogue, DIM, NOW_MS).select(snapshot.columns)
    snapshot.load(table.to_batches(max_chunksize=2))
    return snapshot


def applied(*annotations) -> Snapshot:
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.apply(annotations)
    return snapshot


def contents(snapshot: Snapshot) -> list[tuple[str, list[object]]]:
    columns = [
        snapshot.vectors, snapshot.probabilities.T, snapshot.labels.T, snapshot.uploaded_at_ms,
        snapshot.creators, snapshot.languages, snapshot.available,
    ]  # fmt: skip
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(snapshot.video_id(i), list(map(str, row))) for i, row in enumerate(rows)]


VIDEOS = (
    annotation("a", {"calm": True, "eerie": None}, creator="x", vector=3 * direction(1.0)),
    annotation("b", {"funny": False}, has_vector=False),
    annotation("c", {}, creator="y", uploaded_at_ms=NOW_MS + 5_000),
    msgspec.structs.replace(annotation("d"), uploaded_at_ms=None, language=None),
    removal("e"),
)


def test_a_table_and_its_annotations_make_the_same_snapshot():
    assert contents(loaded(*VIDEOS)) == contents(applied(*VIDEOS))


def test_a_row_holds_what_was_annotated():
    snapshot = applied(*VIDEOS)
    row = snapshot.row("a")
    assert row is not None
    np.testing.assert_allclose(snapshot.vectors[row], direction(1.0), atol=1e-3)
    assert snapshot.labels[:, row].tolist() == [1, -1, -1, 0]
    assert snapshot.creators[row] != snapshot.creators[2]
    assert snapshot.creators[1] == -1


def test_an_upload_is_never_later_than_the_broker_received_it():
    assert applied(*VIDEOS).uploaded_at_ms.tolist()[2:4] == [NOW_MS, NOW_MS]


def test_only_living_videos_with_a_vector_are_available():
    assert applied(*VIDEOS).available.tolist() == [True, False, True, True, False]
    assert REGISTRY.get_sample_value("vibestream_snapshot_videos") == 4


def test_a_zero_vector_is_no_vector():
    assert not applied(annotation("a", vector=np.zeros(DIM))).available[0]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_highest_seq_stands_in_whatever_order_annotations_come(order: tuple[int, ...]):
    versions = [
        annotation("a", {"calm": True}, student=1),
        annotation("a", {"calm": False}, student=2),
        removal("a", received_at_ms=NOW_MS - 2_000),
    ]
    snapshot = applied(*(versions[i] for i in order))
    assert len(snapshot) == 1
    assert snapshot.available[0]
    assert snapshot.labels[0, 0] == 0


def test_an_equal_seq_changes_nothing():
    snapshot = applied(annotation("a", {"calm": True}), annotation("a", {"calm": False}))
    assert snapshot.labels[0, 0] == 1


def test_a_removed_video_stays_away_until_something_newer_comes():
    snapshot = applied(annotation("a"), removal("a"), annotation("a", student=9))
    assert not snapshot.available[0]
    assert snapshot.view("a") is None
    snapshot.apply([annotation("a", uploaded_at_ms=NOW_MS + 10, received_at_ms=NOW_MS + 10)])
    assert snapshot.available[0]


def test_a_removal_that_comes_first_holds_off_what_it_removed():
    assert not applied(removal("a"), annotation("a")).available[0]


def test_the_table_does_not_undo_what_was_followed_before():
    snapshot = applied(annotation("a", {"calm": True}, student=2))
    snapshot.load(to_table([annotation("a", {"calm": False}), annotation("b")], CATALOGUE, DIM, NOW_MS).to_batches())
    assert snapshot.labels[0].tolist() == [1, -1]


def test_an_empty_table_is_an_empty_snapshot():
    snapshot = Snapshot(CATALOGUE, DIM)
    snapshot.load([pa.RecordBatch.from_pylist([], schema=attribute_schema(CATALOGUE, DIM))])
    assert len(snapshot) == 0


def test_a_table_of_another_dimension_is_refused():
    table = to_table([], CATALOGUE, DIM + 1, NOW_MS)
    batch = pa.RecordBatch.from_pylist([], schema=table.schema)
    with pytest.raises(ConfigurationError, match="9 dimensions"):
        Snapshot(CATALOGUE, DIM).load([batch])


def test_an_annotation_that_the_table_can_not_hold_is_left_out_and_the_rest_taken():
    snapshot = applied(annotation("a", vector=np.ones(DIM + 1)), annotation("b", {"unheard_of": True}), annotation("c"))
    assert [snapshot.row(video_id) for video_id in "abc"] == [None, None, 0]


def test_a_view_gives_the_label_where_decided_and_p_where_open():
    view = applied(annotation("a", {"calm": True, "eerie": None, "funny": False}, p=0.25)).view("a")
    assert view is not None
    assert view.probabilities == {"calm": 1.0, "eerie": 0.25}
    assert view.vector is not None
    np.testing.assert_allclose(view.vector, direction(0.0))


def test_thousands_of_videos_keep_their_rows():
    videos = [annotation(f"v{i}", {"calm": i % 2 == 0}, vector=direction(i / 1000)) for i in range(3_000)]
    snapshot = loaded(*videos)
    np.testing.assert_allclose(snapshot.vectors[2_999], direction(2.999), atol=1e-3)
    assert snapshot.labels[0].tolist() == [1, 0] * 1_500
