import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.bundle import load_bundle
from schemas.annotation import Annotation
from schemas.attributes import load_catalogue
from schemas.errors import ConfigurationError, StoreUnavailable
from schemas.table import to_table
from streams.attribute_table import AttributeTable
from topology.roles import bundle_path, open_table
from topology.settings import Settings, environment, read_settings, with_changes
from topology.store import backup, check, restore

CATALOGUE = load_catalogue()


@pytest.fixture
def local(tmp_path: Path) -> Settings:
    return Settings(store_uri=str(tmp_path / "live"))


def fill(settings: Settings, count: int, first: int = 0) -> AttributeTable:
    table = open_table(settings, CATALOGUE)
    videos = [
        Annotation(schema_version=1, video_id=f"v{i}", status="final", received_at_ms=5, annotated_at_ms=5)
        for i in range(first, first + count)
    ]
    table.upsert(to_table(videos, CATALOGUE, table.dim, 5))
    return table


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
    assert done.stderr.splitlines()[-1].startswith("vibestream: the table at")
    done = command(local, "check")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["ok"], found["rows"], found["videos"], found["duplicates"]) == (True, 4, 4, 0)


def test_check_exits_1_on_a_damaged_table_and_2_where_there_is_none(local: Settings) -> None:
    assert command(local, "check").returncode == 2
    fill(local, 4)
    next(Path(local.store_uri, "attributes.lance", "data").iterdir()).unlink()
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


def test_an_object_store_holds_the_table_and_its_loss_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server_module = pytest.importorskip("moto.server", reason="needs moto and flask")
    for name, value in (("ACCESS_KEY_ID", "testing"), ("SECRET_ACCESS_KEY", "s3cret"), ("EC2_METADATA_DISABLED", "1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    import boto3

    endpoint = f"http://{host}:{port}"
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="videos")
    client.close()
    settings = Settings(
        store_uri="s3://videos/store", store_endpoint=endpoint, store_region="us-east-1", store_allow_http=True
    )
    try:
        table = fill(settings, 20)
        assert fill(settings, 10, 15).rows() == (25, 25, 0)
        table.compact()
        assert backup(settings, str(tmp_path / "copy")) == 25
        assert backup(settings, "s3://videos/copy") == 25
        assert check(settings).ok
    finally:
        server.stop()

    assert load_bundle(bundle_path(settings)).manifest.dim == table.dim
    with pytest.raises(StoreUnavailable, match=r"s3://videos/store within 1 s") as caught:
        open_table(with_changes(settings, store_deadline_s=1.0), CATALOGUE)
    assert "s3cret" not in str(caught.value) + repr(settings)
