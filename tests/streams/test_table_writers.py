from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import lancedb
import pytest
from lancedb.index import BTree

from schemas.attributes import Catalogue
from schemas.table import to_table
from streams.attribute_table import AttributeTable
from streams.database import Database
from tests.fakes.attributes import CATALOGUE, DIM, T0, WIDER, annotation, contents, upsert


def test_compaction_bounds_the_fragments_of_many_small_merges(table):
    most = 0
    for i in range(200):
        upsert(table, annotation(f"v{i}"), annotation(f"v{i // 2}", at=T0 + i))
        most = max(most, table.size().fragments)
        if i % 20 == 19:
            table.compact()

    assert table.size().fragments <= 2
    assert 10 < most <= 22
    assert table.rows() == (200, 200, 0)


def test_a_reader_on_an_older_version_survives_a_compaction(table, tmp_path):
    for i in range(10):
        upsert(table, annotation(f"v{i}"))
    stale = lancedb.connect(tmp_path).open_table("attributes")

    table.compact()
    upsert(table, annotation("later"))

    assert sum(video_id != "" for video_id in stale.to_arrow()["video_id"].to_pylist()) == 10


@pytest.mark.parametrize("indexed", [False, True])
def test_two_writers_that_overlap_store_no_video_twice(table, tmp_path, indexed):
    barrier = Barrier(2)
    upsert(table, *[annotation(f"old{i}") for i in range(500)])
    if indexed:
        lancedb.connect(tmp_path).open_table("attributes").create_index("video_id", config=BTree())

    def write() -> int:
        mine = AttributeTable.open(Database(str(tmp_path)), CATALOGUE, DIM)
        changed = 0
        for i in range(15):
            barrier.wait(timeout=60)
            changed += upsert(mine, *[annotation(f"v{i}-{j}") for j in range(8)])
        return changed

    with ThreadPoolExecutor(2) as pool:
        changed = [future.result() for future in [pool.submit(write) for _ in range(2)]]

    assert sum(changed) == 120
    assert table.rows() == (620, 620, 0)


def test_openers_that_race_create_and_widen_one_table(tmp_path):
    barrier = Barrier(4)

    def open_(catalogue: Catalogue) -> AttributeTable:
        barrier.wait(timeout=60)
        return AttributeTable.open(Database(str(tmp_path)), catalogue, DIM)

    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(open_, [CATALOGUE, WIDER, CATALOGUE, WIDER]))

    for i, one in enumerate(opened):
        assert one.upsert(to_table([annotation(f"v{i}")], one.catalogue, DIM, T0)) == 1
    assert opened[0].rows() == (4, 4, 0)


def test_a_zombie_writer_neither_wins_nor_duplicates(table, tmp_path):
    zombie = AttributeTable.open(Database(str(tmp_path)), CATALOGUE, DIM)
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
