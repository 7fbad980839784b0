import itertools
from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from prometheus_client import REGISTRY

from schemas.errors import ConfigurationError
from schemas.table import attribute_schema, to_table
from streams.retriever import Lane, Request
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


def creator(snapshot: Snapshot, row: int) -> int:
    return int(snapshot.describe(np.array([row], np.int32)).creators[0])


def contents(snapshot: Snapshot) -> list[object]:
    rows = range(len(snapshot))
    return [
        [
            snapshot.video_ids([row]),
            str(snapshot.vector(row)),
            str(snapshot.probabilities(row)),
            snapshot.labels(row).tolist(),
            snapshot.uploaded_at_ms(row),
            creator(snapshot, row),
            snapshot.language(row),
        ]
        for row in rows
    ] + [served(snapshot)]


def served(snapshot: Snapshot, oldest_ms: int = 0) -> list[int]:
    """The rows that a search can find."""
    [(_, found)] = snapshot.search([Request(None, [Lane(len(snapshot) or 1, newest=True)])], oldest_ms)
    return sorted(found.lanes[0])


def removed(snapshot: Snapshot, oldest_ms: int = 0, seen: Sequence[str] = (), **request) -> dict[str, int]:
    [(_, found)] = snapshot.search([Request(None, [Lane(1, newest=True)], snapshot.rows(seen), **request)], oldest_ms)
    return found.removed


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
    np.testing.assert_allclose(snapshot.vector(row), direction(1.0), atol=1e-3)
    assert snapshot.labels(row).tolist() == [1, -1, -1, 0]
    assert creator(snapshot, row) != creator(snapshot, 2)
    assert creator(snapshot, 1) == -1
    assert [snapshot.language(row), snapshot.language(3)] == ["en", None]


def test_an_upload_is_never_later_than_the_broker_received_it():
    snapshot = applied(*VIDEOS)
    assert [snapshot.uploaded_at_ms(row) for row in (2, 3)] == [NOW_MS, NOW_MS]


def test_only_living_videos_with_a_vector_are_available():
    snapshot = applied(*VIDEOS)
    assert served(snapshot) == [0, 2, 3]
    assert removed(snapshot) == {"unavailable": 2}
    assert REGISTRY.get_sample_value("vibestream_snapshot_videos") == 4


def test_a_zero_vector_is_no_vector():
    snapshot = applied(annotation("a", vector=np.zeros(DIM)))
    assert snapshot.vector(0) is None
    assert served(snapshot) == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_highest_seq_stands_in_whatever_order_annotations_come(order: tuple[int, ...]):
    versions = [
        annotation("a", {"calm": True}, student=1),
        annotation("a", {"calm": False}, student=2),
        removal("a", received_at_ms=NOW_MS - 2_000),
    ]
    snapshot = applied(*(versions[i] for i in order))
    assert len(snapshot) == 1
    assert served(snapshot) == [0]
    assert snapshot.labels(0)[0] == 0


def test_an_equal_seq_changes_nothing():
    snapshot = applied(annotation("a", {"calm": True}), annotation("a", {"calm": False}))
    assert snapshot.labels(0)[0] == 1


def test_a_removed_video_stays_away_until_something_newer_comes():
    snapshot = applied(annotation("a"), removal("a"), annotation("a", student=9))
    assert served(snapshot) == []
    assert snapshot.views(["a"])[0] is None
    snapshot.apply([annotation("a", uploaded_at_ms=NOW_MS + 10, received_at_ms=NOW_MS + 10)])
    assert served(snapshot) == [0]


def test_a_removal_that_comes_first_holds_off_what_it_removed():
    assert served(applied(removal("a"), annotation("a"))) == []


def test_the_table_does_not_undo_what_was_followed_before():
    snapshot = applied(annotation("a", {"calm": True}, student=2))
    snapshot.load(to_table([annotation("a", {"calm": False}), annotation("b")], CATALOGUE, DIM, NOW_MS).to_batches())
    assert [snapshot.labels(row)[0] for row in range(2)] == [1, -1]


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
    view = applied(annotation("a", {"calm": True, "eerie": None, "funny": False}, p=0.25)).views(["a"])[0]
    assert view is not None
    assert view.probabilities == {"calm": 1.0, "eerie": 0.25}
    assert view.vector is not None
    np.testing.assert_allclose(view.vector, direction(0.0))


def test_thousands_of_videos_keep_their_rows():
    videos = [annotation(f"v{i}", {"calm": i % 2 == 0}, vector=direction(i / 1000)) for i in range(3_000)]
    snapshot = loaded(*videos)
    np.testing.assert_allclose(snapshot.vector(2_999), direction(2.999), atol=1e-3)
    assert [snapshot.labels(row)[0] for row in range(3_000)] == [1, 0] * 1_500


@pytest.mark.parametrize(("label", "kept"), [(False, 1), (True, 0), (None, 0)])
def test_only_a_policy_attribute_that_is_decided_absent_lets_a_video_through(label: bool | None, kept: int):
    assert len(served(applied(annotation("a", {"hostile": label}, p=0.0)))) == kept


def test_a_policy_attribute_that_was_never_scored_keeps_a_video_out():
    video = annotation("a")
    video.attributes.clear()
    assert served(applied(video)) == []


def test_age_is_counted_from_the_upload_and_the_bound_may_move_both_ways():
    snapshot = applied(*(annotation(f"v{i}", uploaded_at_ms=NOW_MS - 10 + i) for i in range(5)))
    for bound, left in ((-8, 3), (-20, 5), (-7, 2), (-7, 2), (0, 0), (-10, 5)):
        assert served(snapshot, NOW_MS + bound) == list(range(5 - left, 5))
        assert removed(snapshot, NOW_MS + bound) == ({"too_old": 5 - left} if left < 5 else {})


def test_each_removed_video_counts_for_the_first_reason_that_holds():
    snapshot = applied(
        annotation("a", {"hostile": None}, has_vector=False),
        annotation("b", {"hostile": None}, uploaded_at_ms=NOW_MS - 50),
        annotation("c", uploaded_at_ms=NOW_MS - 50),
        msgspec.structs.replace(annotation("d"), language="pt"),
        annotation("e"),
        annotation("f"),
    )
    assert removed(snapshot, NOW_MS - 10_000, seen=["a", "b", "d", "e", "gone"], languages=["en", "xx"]) == {
        "unavailable": 1, "policy": 1, "language": 1, "seen": 1,
    }  # fmt: skip
    assert removed(snapshot, NOW_MS - 40) == {"unavailable": 1, "policy": 1, "too_old": 4}
