"""Faults of the store and of the student's files: the workers wait or refuse loudly, and everything arrives."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from uuid import uuid4

import pytest

from models.bundle import MODEL, default_bundle
from tests.faults.disk import Disk, disk
from tests.faults.outcomes import OUTCOMES, Outcome
from tests.faults.storing import ROLES, Storing, storing
from tests.processes import wait_until
from topology.settings import Settings

AWAY_S = 15


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


def settings_of(broker: str, **more: object) -> Settings:
    return Settings(
        broker=broker, topic_prefix=f"{uuid4().hex[:12]}.", session_timeout_s=6, commit_interval_s=0.3, **more
    )


@pytest.fixture(scope="module")
def on_disk(broker: str, folder: Path, mounted: Disk | None, bundle: Path, report: list[Outcome]) -> Iterator[Storing]:
    settings = settings_of(broker, store_uri=str(folder / "disk" / "lancedb"), bundle=str(bundle))
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
