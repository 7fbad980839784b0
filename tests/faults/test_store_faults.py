"""Faults of the store and of the student's files: the workers wait or refuse loudly, and everything arrives."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from uuid import uuid4

import pytest

from models.bundle import MODEL, default_bundle
from schemas.attributes import load_catalogue
from streams.attribute_table import AttributeTable
from tests.faults.disk import Disk, disk
from tests.faults.outcomes import OUTCOMES, Outcome
from tests.faults.storing import ROLES, Storing, storing
from tests.processes import wait_until
from topology.attribute_store import open_table
from topology.settings import Settings

AWAY_S = 15
KEPT, GAINED, LOST = "funny", "eerie", "ranting"
_HEADING = "[[attributes]]"


def write_catalogue(path: Path, without: str = "", retired: Sequence[str] = ()) -> Path:
    """The catalogue that ships, without an attribute."""
    head, *entries = (files("schemas") / "catalogue.toml").read_text().split(_HEADING)
    kept = [entry for entry in entries if f'id = "{without}"' not in entry]
    path.write_text(_HEADING.join([f"{head}\nretired = {json.dumps(retired)}\n", *kept]))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storing")


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> list[Outcome]:
    return request.config.stash.setdefault(OUTCOMES, [])


@pytest.fixture(scope="module")
def mounted(folder: Path) -> Iterator[Disk | None]:
    (folder / "disk").mkdir()
    with disk(folder / "disk") as made:
        yield made


@pytest.fixture
def small_disk(mounted: Disk | None) -> Disk:
    if mounted is None:
        pytest.skip("mounting a tmpfs is not permitted here")
    return mounted


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    return shutil.copytree(default_bundle(), folder / "bundle")


def rows(table: AttributeTable, attribute: str) -> list[dict[str, float | None]]:
    return [row for batch in table.read([f"p_{attribute}"]) for row in batch.to_pylist()]


def settings_of(broker: str, **more: object) -> Settings:
    return Settings(
        broker=broker, topic_prefix=f"{uuid4().hex[:12]}.", session_timeout_s=6, commit_interval_s=0.3, **more
    )


@pytest.fixture(scope="module")
def catalogue(folder: Path) -> Path:
    return write_catalogue(folder / "catalogue.toml", without=GAINED)


@pytest.fixture(scope="module")
def on_disk(
    broker: str, folder: Path, mounted: Disk | None, bundle: Path, catalogue: Path, report: list[Outcome]
) -> Iterator[Storing]:
    store = str(folder / "disk" / "lancedb")
    settings = settings_of(broker, store_uri=store, bundle=str(bundle), catalogue=str(catalogue))
    with storing(settings, folder, report) as made:
        yield made


def tried_again(pipeline: Storing, before: float) -> None:
    wait_until(lambda: pipeline.tries() >= before + 5, 60, "the store worker tries again")
    pipeline.workers.check()


def test_a_store_on_a_disk_that_became_read_only(on_disk: Storing, small_disk: Disk) -> None:
    before = on_disk.tries()

    def read_only() -> None:
        wait_until(small_disk.make_read_only, 10, "no file is open for writing")
        try:
            tried_again(on_disk, before)
        finally:
            small_disk.make_writable()

    on_disk.suffer("store read-only", read_only)
    assert "Read-only file system" in on_disk.log("store")


def test_a_store_on_a_disk_that_is_full(on_disk: Storing, small_disk: Disk) -> None:
    before = on_disk.tries()

    def full() -> None:
        small_disk.fill()
        try:
            tried_again(on_disk, before)
        finally:
            small_disk.free()

    on_disk.suffer("store disk full", full)
    assert "No space left on device" in on_disk.log("store")


def test_a_student_whose_file_is_damaged_goes_on_and_is_refused_at_its_next_start_until_it_is_mended(
    on_disk: Storing, bundle: Path
) -> None:
    model, workers = bundle / MODEL, on_disk.workers
    whole = model.read_bytes()

    def damaged_while_it_runs() -> None:
        model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    def damaged_at_its_start() -> None:
        for role in ROLES:
            workers.kill(role)
        workers.start("store")  # which does without the model
        workers.wait_until_reading("store")
        said = on_disk.refuses("annotate")
        model.write_bytes(whole)
        workers.start("annotate")
        [line] = [line for line in said.splitlines() if not line[:4].isdigit()]  # a line of the log has its date
        assert line.startswith(f"vibestream: {model}: expected sha256")

    on_disk.suffer("bundle damaged, worker running", damaged_while_it_runs)
    on_disk.suffer("bundle damaged, worker started", damaged_at_its_start)


def test_a_catalogue_that_gains_and_loses_attributes_while_the_others_have_the_old_one(
    on_disk: Storing, catalogue: Path
) -> None:
    def replaced() -> None:
        for role in ("store", "annotate"):  # the store takes what the one before it does not know yet, or still sends
            on_disk.workers.end(role)
            on_disk.workers.start(role)
            on_disk.workers.wait_until_reading(role)

    write_catalogue(catalogue)
    on_disk.suffer("catalogue gains an attribute", replaced)
    write_catalogue(catalogue, without=LOST, retired=[LOST])
    on_disk.suffer("catalogue loses an attribute", replaced)
    on_disk.suffer("none, catalogue changed", lambda: None)

    [table] = open_table(on_disk.settings, load_catalogue()).tables.values()
    scored = {name: sum(row[f"p_{name}"] is not None for row in rows(table, name)) for name in (GAINED, LOST, KEPT)}
    assert 0 < scored[GAINED] < scored[KEPT]
    assert 0 < scored[LOST] < scored[KEPT]


def test_an_object_store_that_does_not_answer_for_a_while(
    broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: list[Outcome]
) -> None:
    pytest.importorskip("moto.server", reason="needs moto and flask")
    from tests.fakes.object_store import object_store

    with object_store(monkeypatch) as s3:
        settings = s3.settings(settings_of(broker), "store", store_deadline_s=2.0)
        with storing(settings, tmp_path, report) as pipeline:

            def away() -> None:
                s3.process.send_signal(SIGSTOP)
                try:
                    time.sleep(AWAY_S)
                    tried_again(pipeline, 0)
                finally:
                    s3.process.send_signal(SIGCONT)

            pipeline.suffer(f"object store stopped {AWAY_S} s", away)
            assert "within 2 s. Check that the store answers" in pipeline.log("store")
