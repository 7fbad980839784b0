import socket
from pathlib import Path
from shutil import rmtree

import pytest

from schemas.errors import DamagedTable, StoreUnavailable
from streams.attribute_table import AttributeTable
from streams.database import Database
from tests.fakes.attributes import CATALOGUE, DIM, T0, annotation, upsert


def newest_manifest(root: Path) -> Path:
    return min((root / "attributes.lance" / "_versions").glob("*.manifest"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_file(root: Path, folder: str) -> Path:
    """The file written last: an earlier one may be of an older version alone."""
    return max((root / "attributes.lance" / folder).iterdir(), key=lambda path: path.stat().st_mtime_ns)


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
        open_(Database(str(tmp_path)), CATALOGUE, DIM)

    assert "vibestream store restore" in str(caught.value)
    assert f"{tmp_path}/attributes.lance" in str(caught.value)


def test_a_store_that_does_not_answer_is_unavailable_after_the_deadline(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k3y")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = {"aws_endpoint": endpoint, "allow_http": "true", "aws_region": "us-east-1"}
        with pytest.raises(StoreUnavailable, match=r"s3://bucket/store within 0\.5 s") as caught:
            AttributeTable.open(Database("s3://bucket/store", storage_options=options, deadline_s=0.5), CATALOGUE, DIM)

    assert "s3cret" not in str(caught.value)


def test_a_store_that_is_gone_is_unavailable_in_every_call(table, tmp_path):
    upsert(table, annotation())
    rmtree(tmp_path / "attributes.lance")

    for call in (lambda: upsert(table, annotation("v2")), table.compact, table.size, table.rows):
        with pytest.raises(StoreUnavailable, match=f"{tmp_path}.*Check that"):
            call()
    with pytest.raises(StoreUnavailable):
        next(table.read())


def test_an_address_that_can_not_be_written_is_unavailable(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnavailable, match="can't open the attribute table"):
        AttributeTable.open(Database(str(tmp_path / "file" / "store")), CATALOGUE, DIM)


def test_what_a_creation_left_that_failed_is_no_damage(tmp_path):
    (tmp_path / "attributes.lance" / "data").mkdir(parents=True)
    (tmp_path / "attributes.lance" / "_transactions").mkdir()

    assert AttributeTable.open_existing(Database(str(tmp_path)), CATALOGUE, DIM) is None
    created = AttributeTable.open(Database(str(tmp_path)), CATALOGUE, DIM)
    assert upsert(created, annotation()) == 1
    assert created.rows() == (1, 1, 0)
