import json
import subprocess
import sys
from pathlib import Path
from shutil import rmtree

import pytest

from schemas.attributes import load_catalogue
from schemas.errors import ConfigurationError
from streams.shards import table_names
from tests.fakes.stored import fill
from topology.attribute_store import open_table
from topology.settings import Settings, environment, read_settings, with_changes
from topology.store import backup, check, reshard, restore

CATALOGUE = load_catalogue()


@pytest.fixture
def local(tmp_path: Path) -> Settings:
    return Settings(store_uri=str(tmp_path / "live"))


def command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "topology.cli", "store", *arguments],
        env=environment(settings), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_backup_restores_to_a_table_that_workers_go_on_with(local: Settings, tmp_path: Path) -> None:
    live = fill(local, 300)
    before = [row for batch in live.read() for row in batch.to_pylist()]
    assert backup(local, str(tmp_path / "copy")) == 300
    fill(local, 50, 300)

    other = with_changes(local, store_uri=str(tmp_path / "new"))
    assert restore(other, str(tmp_path / "copy")) == 300

    restored = open_table(other, CATALOGUE)
    assert [row for batch in restored.read() for row in batch.to_pylist()] == before
    assert fill(other, 310).rows() == (310, 310, 0)


def test_an_empty_table_may_be_restored_over_and_one_with_rows_not(local: Settings, tmp_path: Path) -> None:
    fill(local, 3)
    copy = str(tmp_path / "copy")
    backup(local, copy)
    with pytest.raises(ConfigurationError, match="holds 3 rows"):
        restore(local, copy)
    with pytest.raises(ConfigurationError, match="holds 3 rows"):
        backup(local, copy)

    empty = with_changes(local, store_uri=str(tmp_path / "empty"))
    open_table(empty, CATALOGUE)
    assert restore(empty, copy) == 3
    assert check(empty).rows == 3


def test_a_backup_of_nothing_is_refused(local: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no attribute table"):
        backup(local, str(tmp_path / "copy"))


def test_commands_back_up_restore_and_check(local: Settings, tmp_path: Path) -> None:
    fill(local, 4)
    copy = str(tmp_path / "copy")
    assert "4 rows" in command(local, "backup", copy).stdout
    done = command(local, "restore", copy)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("vibestream: the store at")
    done = command(local, "check")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["ok"], found["rows"], found["videos"], found["duplicates"]) == (True, 4, 4, 0)


def test_check_exits_1_on_a_damaged_table_and_2_where_there_is_none(local: Settings) -> None:
    assert command(local, "check").returncode == 2
    fill(local, 4)
    for file in Path(local.store_uri, "attributes.lance", "data").iterdir():
        file.unlink()
    done = command(local, "check")
    assert done.returncode == 1
    assert "gone or cut short" in json.loads(done.stdout)["damage"]


def test_check_finds_a_video_that_is_there_twice(local: Settings) -> None:
    import lancedb

    table = fill(local, 4)
    raw = lancedb.connect(local.store_uri).open_table("attributes")
    raw.to_lance().insert(next(table.read()).slice(0, 1), mode="append")
    found = check(local)
    assert (found.ok, found.rows, found.duplicates) == (False, 5, 1)


def sharded(settings: Settings, shards: int) -> Settings:
    return with_changes(settings, store_shards=shards)


def test_a_sharded_store_is_checked_backed_up_and_restored_as_a_whole(local: Settings, tmp_path: Path) -> None:
    two, copy = sharded(local, 2), str(tmp_path / "copy")
    live = fill(two, 30)
    before = [row for batch in live.read() for row in batch.to_pylist()]

    assert backup(two, copy) == 30
    other = with_changes(two, store_uri=str(tmp_path / "new"))
    assert restore(other, copy) == 30

    assert [row for batch in open_table(other, CATALOGUE).read() for row in batch.to_pylist()] == before
    found = check(other)
    assert (found.ok, found.shards, found.rows, found.videos) == (True, 2, 30, 30)


def test_a_shard_that_was_lost_is_found_and_restored_beside_the_others(local: Settings, tmp_path: Path) -> None:
    two, copy = sharded(local, 2), str(tmp_path / "copy")
    fill(two, 30)
    backup(two, copy)
    fill(two, 30, 30)
    lost = table_names(2)[1]
    rmtree(Path(local.store_uri, f"{lost}.lance"))
    assert (check(two).ok, check(two).damage) == (False, f"there is no table {lost}")

    restored = restore(two, copy)

    assert 0 < restored < 30
    found = check(two)
    assert (found.ok, found.videos) == (True, open_table(two, CATALOGUE).tables[0].rows().rows + restored)


def test_a_store_in_another_number_of_shards_is_refused_until_it_is_moved(local: Settings, tmp_path: Path) -> None:
    fill(local, 30)
    two = sharded(local, 2)
    for refused in (
        lambda: check(two),
        lambda: backup(two, str(tmp_path / "copy")),
        lambda: restore(with_changes(two, store_uri=str(tmp_path / "new")), local.store_uri),
    ):
        with pytest.raises(ConfigurationError, match=r"30 rows in 1 shard, but VIBESTREAM_STORE_SHARDS=2.*reshard 2"):
            refused()

    done = command(local, "reshard", "2")
    assert done.stdout == "30 rows moved; start the workers with VIBESTREAM_STORE_SHARDS=2\n", done.stderr
    assert check(two).videos == 30


@pytest.mark.parametrize(("shards", "says"), [(0, "0 shards"), (1_000, "1000 shards"), (2, "no attribute table")])
def test_a_move_into_an_impossible_number_of_shards_or_of_nothing_is_refused(
    local: Settings, shards: int, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        reshard(local, shards)


def test_store_settings_become_storage_options() -> None:
    settings = read_settings(
        {
            "VIBESTREAM_STORE_ENDPOINT": "http://minio:9000",
            "VIBESTREAM_STORE_REGION": "eu-1",
            "VIBESTREAM_STORE_ALLOW_HTTP": "true",
            "VIBESTREAM_STORE_VIRTUAL_HOSTED": "false",
        }
    )
    assert settings.storage_options == {
        "aws_endpoint": "http://minio:9000", "aws_region": "eu-1", "allow_http": "true",
    }  # fmt: skip
    assert read_settings(environment(settings)).storage_options == settings.storage_options
