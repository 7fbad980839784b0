from collections.abc import Iterator
from pathlib import Path
from signal import SIGSTOP

import pytest

from schemas.attributes import load_catalogue
from schemas.errors import StoreUnavailable
from tests.fakes.stored import fill
from topology.attribute_store import open_table
from topology.settings import Settings, with_changes
from topology.store import backup, check, reshard, restore

pytest.importorskip("moto.server", reason="needs moto and flask")
from tests.fakes.object_store import ObjectStore, object_store  # noqa: E402 - it needs moto


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with object_store(monkeypatch) as started:
        yield started


@pytest.mark.parametrize("shards", [1, 2])
def test_an_object_store_holds_the_table_and_its_copies(s3: ObjectStore, tmp_path: Path, shards: int) -> None:
    settings = s3.settings(Settings(), "store", store_shards=shards)
    fill(settings, 20)
    store = fill(settings, 10, 15)
    assert store.rows() == (25, 25, 0)
    for table in store.tables.values():
        table.compact()
    assert check(settings).ok
    assert backup(settings, str(tmp_path / "copy")) == 25
    assert backup(settings, "s3://videos/copy") == 25

    for source in ("s3://videos/copy", str(tmp_path / "copy")):
        restored = s3.settings(settings, f"from-{len(source)}")
        assert restore(restored, source) == 25
        assert check(restored).videos == 25
        assert fill(restored, 30).rows() == (30, 30, 0)
    assert restore(with_changes(settings, store_uri=str(tmp_path / "local")), "s3://videos/copy") == 25

    assert reshard(settings, 3) == 25
    assert check(with_changes(settings, store_shards=3)).videos == 25


def test_an_object_store_that_does_not_answer_is_unavailable_without_its_secrets(s3: ObjectStore) -> None:
    settings = s3.settings(Settings(), "store", store_deadline_s=1.0)
    s3.process.send_signal(SIGSTOP)
    with pytest.raises(StoreUnavailable, match=r"s3://videos/store within 1 s") as caught:
        open_table(settings, load_catalogue())
    assert "s3cret" not in str(caught.value) + repr(settings)
