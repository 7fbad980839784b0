from pathlib import Path

import lancedb
import pytest

from schemas.errors import ConfigurationError
from streams.attribute_store import AttributeStore
from streams.attribute_table import AttributeTable
from streams.database import Database
from streams.reshard import reshard
from streams.shards import table_names
from tests.fakes.attributes import CATALOGUE, DIM, T0, annotation, catalogue, contents, upsert


def filled(path: Path, shards: int, videos: int = 40) -> AttributeStore:
    store = AttributeStore.open(Database(str(path)), CATALOGUE, DIM, shards)
    upsert(store, annotation("v0", at=T0 + 1), *[annotation(f"v{i}", status="removed") for i in range(1, 4)])
    upsert(store, *[annotation(f"v{i}") for i in range(4, videos)])
    return store


def move(path: Path, shards: int) -> int:
    return reshard(Database(str(path)), CATALOGUE, DIM, shards)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (3, 2)])
def test_all_rows_move_as_they_are_and_the_old_tables_go(tmp_path, before, after):
    rows = contents(filled(tmp_path, before))

    assert move(tmp_path, after) == 40

    store = AttributeStore.open(Database(str(tmp_path)), CATALOGUE, DIM, after)
    assert contents(store) == rows
    assert store.rows() == (40, 40, 3)
    assert set(lancedb.connect(tmp_path).list_tables().tables) == set(table_names(after))


def test_a_store_that_has_the_number_already_is_left_alone(tmp_path):
    rows = contents(filled(tmp_path, 2))

    assert move(tmp_path, 2) == 0
    assert contents(AttributeStore.open(Database(str(tmp_path)), CATALOGUE, DIM, 2)) == rows


def test_columns_of_attributes_that_are_gone_from_the_catalogue_move_too(tmp_path):
    filled(tmp_path, 1)

    reshard(Database(str(tmp_path)), catalogue("calm"), DIM, 2)

    store = AttributeStore.open(Database(str(tmp_path)), CATALOGUE, DIM, 2)
    assert [row["p_funny"] for row in contents(store) if row["video_id"] == "v9"] == [0.5]


def test_a_move_that_broke_off_is_refused_until_it_is_run_again(tmp_path):
    rows = contents(filled(tmp_path, 1))

    def break_off(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reshard(Database(str(tmp_path)), CATALOGUE, DIM, 2, break_off)
    for shards in (1, 2):
        with pytest.raises(ConfigurationError, match="vibestream store reshard"):
            AttributeStore.open(Database(str(tmp_path)), CATALOGUE, DIM, shards)

    assert move(tmp_path, 2) == 40
    assert contents(AttributeStore.open(Database(str(tmp_path)), CATALOGUE, DIM, 2)) == rows


def test_a_move_that_broke_off_while_it_deleted_loses_nothing_when_run_again(tmp_path):
    rows = contents(filled(tmp_path, 2))
    move(tmp_path, 3)
    left = AttributeTable.open(Database(str(tmp_path)), CATALOGUE, DIM, table_names(2)[1])
    upsert(left, annotation("v0"))  # as it was: an older annotation of a video that has moved

    assert move(tmp_path, 3) == 1
    assert contents(AttributeStore.open(Database(str(tmp_path)), CATALOGUE, DIM, 3)) == rows


def test_a_worker_that_writes_meanwhile_keeps_its_table(tmp_path):
    store = filled(tmp_path, 1)

    with pytest.raises(ConfigurationError, match="a store worker wrote"):
        reshard(Database(str(tmp_path)), CATALOGUE, DIM, 2, lambda _: upsert(store, annotation("late")))

    assert store.rows().rows == 41
    assert move(tmp_path, 2) == 41
