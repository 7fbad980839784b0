from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import lancedb
import pytest

from schemas.errors import ConfigurationError
from streams.attribute_store import AttributeStore
from streams.database import Database
from streams.shards import shard_of, table_names
from tests.fakes.attributes import CATALOGUE, DIM, T0, annotation, contents, upsert


def open_store(path: Path, shards: int) -> AttributeStore:
    return AttributeStore.open(Database(str(path)), CATALOGUE, DIM, shards)


@pytest.mark.parametrize("shards", [1, 3])
def test_every_video_is_stored_once_in_the_shard_that_its_id_says(tmp_path, shards):
    store = open_store(tmp_path, shards)
    videos = [annotation(f"v{i}", status="removed" if i < 5 else "final") for i in range(60)]

    changed = [upsert(store, *videos), upsert(store, *videos), upsert(store, annotation("v7", at=T0 + 1))]

    assert changed == [60, 0, 1]
    assert store.rows() == (60, 60, 5)
    assert [row["video_id"] for row in contents(store)] == sorted(f"v{i}" for i in range(60))
    for shard, table in store.tables.items():
        assert {shard_of(row["video_id"], shards) for row in contents(table)} == {shard}


def test_a_store_of_one_shard_is_the_plain_table(tmp_path):
    upsert(open_store(tmp_path, 1), annotation())

    assert lancedb.connect(tmp_path).list_tables().tables == ["attributes"]


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1), (2, 4)])
@pytest.mark.parametrize("open_", [AttributeStore.open, AttributeStore.open_existing])
def test_another_number_of_shards_is_refused_with_both_and_the_command(tmp_path, open_, first, second):
    upsert(open_store(tmp_path, first), *[annotation(f"v{i}") for i in range(9)])

    with pytest.raises(ConfigurationError) as caught:
        open_(Database(str(tmp_path)), CATALOGUE, DIM, second)

    message = str(caught.value)
    assert f"9 rows in {first} shard" in message
    assert f"VIBESTREAM_STORE_SHARDS={second}" in message
    assert f"vibestream store reshard {second}" in message


def test_an_empty_store_takes_any_number_of_shards(tmp_path):
    open_store(tmp_path, 2)

    assert upsert(open_store(tmp_path, 1), annotation()) == 1


def test_opening_to_read_creates_nothing_and_says_what_is_missing(tmp_path):
    store = AttributeStore.open_existing(Database(str(tmp_path)), CATALOGUE, DIM, 2)

    assert (list(store.missing), list(store.read())) == (list(table_names(2)), [])
    assert not list(tmp_path.iterdir())


def test_writers_of_all_shards_that_overlap_store_no_video_twice(tmp_path):
    barrier = Barrier(2)
    open_store(tmp_path, 2)

    def write() -> int:
        mine, changed = open_store(tmp_path, 2), 0
        for i in range(10):
            barrier.wait(timeout=60)
            changed += upsert(mine, *[annotation(f"v{i}-{j}") for j in range(8)])
        return changed

    with ThreadPoolExecutor(2) as pool:
        changed = [future.result() for future in [pool.submit(write) for _ in range(2)]]

    assert sum(changed) == 80
    assert open_store(tmp_path, 2).rows() == (80, 80, 0)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_video_is_found_by_an_id_that_needs_quoting(tmp_path, shards):
    store = open_store(tmp_path, shards)
    upsert(store, annotation("it's"), annotation("other"))

    found = store.find("it's")

    assert found is not None
    assert (found["video_id"], found["status"], "vector" in found) == ("it's", "final", False)
    assert store.find("' OR 1=1 --") is None
