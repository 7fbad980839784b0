import socket
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError, StoreUnavailable
from streams.attribute_store import AttributeStore
from streams.database import Database
from streams.table_copy import copy_store
from tests.fakes.attributes import CATALOGUE, DIM, annotation, contents, upsert


def filled(path: Path, shards: int) -> AttributeStore:
    store = AttributeStore.open(Database(str(path)), CATALOGUE, DIM, shards)
    upsert(store, *[annotation(f"v{i}") for i in range(20)])
    return store


def at(path: Path, shards: int) -> tuple[Database, AttributeStore]:
    return Database(str(path)), AttributeStore.open_existing(Database(str(path)), CATALOGUE, DIM, shards)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_copy_holds_the_same_rows_and_can_be_written(tmp_path, shards):
    source, told = filled(tmp_path / "live", shards), list[int]()

    assert copy_store(source, *at(tmp_path / "copy", shards), told.append) == sum(told) == 20

    copied = AttributeStore.open(Database(str(tmp_path / "copy")), CATALOGUE, DIM, shards)
    assert contents(copied) == contents(source)
    assert upsert(copied, annotation("v1"), annotation("new")) == 1


def test_a_place_whose_every_shard_holds_rows_is_refused(tmp_path):
    source = filled(tmp_path / "live", 2)
    copy_store(source, *at(tmp_path / "copy", 2))

    with pytest.raises(ConfigurationError, match="holds 20 rows"):
        copy_store(source, *at(tmp_path / "copy", 2))


def test_a_place_that_does_not_answer_is_given_up_after_the_deadline(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k3y")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    source = filled(tmp_path, 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = {"aws_endpoint": endpoint, "allow_http": "true", "aws_region": "us-east-1"}
        to = Database("s3://bucket/copy", storage_options=options, deadline_s=0.5)
        with pytest.raises(StoreUnavailable, match=r"did not copy .* s3://bucket/copy within 0\.5 s"):
            copy_store(source, to, AttributeStore({}, 1, CATALOGUE, DIM))

    assert source.rows() == (20, 20, 0)
