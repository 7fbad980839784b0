import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import Barrier as ThreadBarrier

import lancedb
import pyarrow as pa
import pytest
from lancedb.index import BTree
from lancedb.table import Table

from schemas.errors import StoreUnavailable
from schemas.table import attribute_schema, to_table
from streams.attribute_store import AttributeStore
from streams.attribute_table import AttributeTable
from streams.database import Database
from streams.table_copy import copy_store
from tests.fakes.attributes import CATALOGUE, DIM, T0, annotation, contents, upsert

WRITERS, ROUNDS, KEYS = 3, 30, 16
_barrier: Barrier


def raw(path: Path | str) -> Table:
    return lancedb.connect(path).open_table("attributes")


def run(own: int, number: int) -> pa.Table:
    """The same new videos for all writers, of a higher seq for a later writer, and one video of its own."""
    videos = [annotation(f"v{number}-{i}", at=T0 + own) for i in range(KEYS)]
    return to_table([*videos, annotation(f"own{own}-{number}")], CATALOGUE, DIM, T0)


def share(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def write(path: str, own: int) -> int:
    table, changed = AttributeTable.open(Database(path), CATALOGUE, DIM), 0
    for number in range(ROUNDS):
        rows = run(own, number)
        _barrier.wait(timeout=60)
        changed += table.upsert(rows)
        if own == number % WRITERS:
            with suppress(StoreUnavailable):  # another writer's merge came before
                (table.compact if number % 4 == 0 else table.index)()
    return changed


def write_without(path: str, own: int) -> int:
    table = lancedb.connect(path).open_table("attributes")
    for number in range(ROUNDS):
        rows = run(own, number)
        _barrier.wait(timeout=60)
        table.checkout_latest()
        merge = table.merge_insert("video_id").when_matched_update_all(where="target.seq < source.seq")
        merge.when_not_matched_insert_all().execute(rows, on_bad_vectors="null")
    return 0


def race(writer, path: Path) -> list[int]:
    context = mp.get_context("spawn")
    with ProcessPoolExecutor(WRITERS, context, share, (context.Barrier(WRITERS),)) as pool:
        return list(pool.map(writer, [str(path)] * WRITERS, range(WRITERS)))


def test_processes_that_insert_the_same_videos_at_once_store_each_once_and_the_highest_seq(table, tmp_path):
    upsert(table, *[annotation(f"old{i}") for i in range(500)])
    raw(tmp_path).create_index("video_id", config=BTree())

    changed = race(write, tmp_path)

    assert table.rows() == (500 + ROUNDS * (KEYS + WRITERS),) * 2 + (0,)
    received = {row["video_id"]: row["received_at_ms"] for row in contents(table)}
    assert {received[f"v{n}-{i}"] for n in range(ROUNDS) for i in range(KEYS)} == {T0 + WRITERS - 1}
    assert ROUNDS * (KEYS + WRITERS) <= sum(changed) <= ROUNDS * WRITERS * (KEYS + 1)
    assert raw(tmp_path).count_rows("video_id = ''") == 1


def test_merges_that_leave_the_common_row_alone_store_videos_twice(table, tmp_path):
    """Once this fails, Lance notices by itself, and the common row can go."""
    upsert(table, *[annotation(f"old{i}") for i in range(500)])
    raw(tmp_path).create_index("video_id", config=BTree())

    race(write_without, tmp_path)

    counts = table.rows()
    assert counts.rows > counts.videos == 500 + ROUNDS * (KEYS + WRITERS)


def old_table(path: Path, videos: int) -> None:
    """As the versions before there was a common row made them."""
    made = lancedb.connect(path).create_table("attributes", schema=attribute_schema(CATALOGUE, DIM))
    if videos:
        rows = to_table([annotation(f"v{i}") for i in range(videos)], CATALOGUE, DIM, T0)
        made.add(rows, on_bad_vectors="null")


def test_a_table_from_before_is_read_as_it_is_and_gains_the_row_when_a_writer_opens_it(tmp_path):
    old_table(tmp_path, 3)
    reader = AttributeTable.open_existing(Database(str(tmp_path)), CATALOGUE, DIM)
    assert reader is not None
    assert (reader.rows(), raw(tmp_path).count_rows()) == ((3, 3, 0), 3)

    writer = AttributeTable.open(Database(str(tmp_path)), CATALOGUE, DIM)

    assert upsert(writer, annotation("v1", at=T0 + 1), annotation("v9")) == 2
    assert writer.rows() == reader.rows() == (4, 4, 0)
    assert raw(tmp_path).count_rows("video_id = ''") == 1


@pytest.mark.parametrize("exists", [False, True])
def test_openers_that_race_add_one_common_row(tmp_path, exists):
    for number in range(10):
        path, barrier = tmp_path / str(number), ThreadBarrier(4)
        if exists:
            old_table(path, 2)

        def open_and_write(name: str, path: Path = path, barrier: ThreadBarrier = barrier) -> int:
            barrier.wait(timeout=60)
            table = AttributeTable.open(Database(str(path)), CATALOGUE, DIM)
            try:
                return upsert(table, annotation(name))
            except StoreUnavailable:  # another opener created the table meanwhile: a worker tries again
                return upsert(table, annotation(name))

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(open_and_write, ["a", "b", "c", "d"])) == [1] * 4
        assert sorted(raw(path).to_arrow()["video_id"].to_pylist()) == sorted(["", *"abcd", *(["v0", "v1"] * exists)])


def test_what_others_wrote_into_a_table_that_an_opener_overwrote_by_creating_it_comes_back(tmp_path):
    class Late(Database):
        """Creates the table after another opener has created, written and changed it, as Lance may let it happen."""

        def create(self, name: str, schema: pa.Schema) -> Table:
            other = AttributeTable.open(Database(self.uri), CATALOGUE, DIM)
            upsert(other, annotation("v1", at=T0 + 1), annotation("v2"))
            upsert(other, annotation("v2", at=T0 + 1))
            return lancedb.connect(self.uri).create_table(name, schema=schema, mode="overwrite")

    table = AttributeTable.open(Late(str(tmp_path)), CATALOGUE, DIM)

    assert [(row["video_id"], row["seq"]) for row in contents(table)] == [
        (one.video_id, one.seq) for one in (annotation("v1", at=T0 + 1), annotation("v2", at=T0 + 1))
    ]
    assert upsert(table, annotation("v1"), annotation("v3")) == 1
    assert raw(tmp_path).count_rows("video_id = ''") == 1


def test_nobody_who_reads_the_table_is_shown_the_common_row(table, tmp_path):
    upsert(table, annotation("v1"), annotation("v2", status="removed"))

    assert [row["video_id"] for row in contents(table)] == ["v1", "v2"]
    assert (table.rows(), table.size().rows, table.find("")) == ((2, 2, 1), 2, None)
    with table.kept() as (_, batches):
        assert sum(batch.num_rows for batch in batches) == 2


def test_a_copy_of_a_table_gains_its_own_common_row(table, tmp_path):
    upsert(table, annotation("v1"))
    to = Database(str(tmp_path / "copy"))
    AttributeTable.open(to, CATALOGUE, DIM)
    target = AttributeStore.open_existing(to, CATALOGUE, DIM)

    copy_store(AttributeStore({0: table}, 1, CATALOGUE, DIM), to, target)

    assert raw(tmp_path / "copy").count_rows() == 1
    AttributeTable.open(to, CATALOGUE, DIM)
    assert raw(tmp_path / "copy").count_rows("video_id = ''") == 1


def test_a_table_that_has_become_large_is_indexed_and_the_index_kept_up_to_date(table, tmp_path):
    table.compact()
    assert raw(tmp_path).list_indices() == []
    one = to_table([annotation("v")], CATALOGUE, DIM, T0).to_pylist()[0]
    many = pa.Table.from_pylist([one], attribute_schema(CATALOGUE, DIM)).take(pa.array([0] * 500_000))
    ids = pa.array([f"v{i}" for i in range(500_000)])
    raw(tmp_path).add(many.set_column(0, many.schema.field(0), ids), on_bad_vectors="null")

    def unindexed() -> tuple[int, int | None]:
        stats = raw(tmp_path).index_stats("video_id_idx")
        assert stats is not None
        return stats.num_unindexed_rows, stats.num_indices

    table.compact()
    assert unindexed() == (0, 1)
    for i in range(6):
        upsert(table, annotation(f"v{i}", at=T0 + 1), annotation(f"new{i}"))
        if i % 2:
            table.index()
    assert unindexed() == (0, 4)
    upsert(table, annotation("v0", at=T0 + 2), annotation("new0"))
    assert unindexed()[0] > 0
    table.compact()
    assert unindexed() == (0, 2)
    table.upsert(many.set_column(0, many.schema.field(0), pa.array([f"w{i}" for i in range(500_000)])).slice(0, 80_000))
    table.compact()
    table.compact()
    assert unindexed() == (0, 1)
    assert table.rows() == (580_006, 580_006, 0)
