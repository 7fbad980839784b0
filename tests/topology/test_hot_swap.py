"""A real worker under a steady stream while an operator promotes, breaks and rolls back students."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest

from models.registry import CURRENT, Registry
from monitoring.scrape import total
from schemas.annotation import Annotation
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.record import Message
from tests.fakes.bundles import add_version, damage, elsewhere, registry
from tests.fakes.stored import fill
from tests.processes import wait_until
from topology.cli import main
from topology.fleet import Fleet
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.settings import Settings, environment, with_changes
from topology.topics import ANNOTATIONS, VIDEO_UPLOADS


@pytest.fixture
def students(tmp_path: Path) -> Registry:
    found = registry(tmp_path / "students", 3)
    found.promote(1)
    return found


@pytest.fixture
def vibestream(settings: Settings, students: Registry, monkeypatch: pytest.MonkeyPatch):
    """`vibestream student ...` as a person runs it; returns the exit code."""
    for name, value in environment(with_changes(settings, students=str(students.root))).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["student", *map(str, arguments)])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


class Stream(Thread):
    """Sends uploads at a steady rate, until it is stopped; `sent` is how many."""

    def __init__(self, settings: Settings, producer: ConfirmedProducer) -> None:
        super().__init__()
        self._topic = settings.topic(VIDEO_UPLOADS)
        self._producer = producer
        self._stop_it = Event()
        self.sent = 0

    def run(self) -> None:
        for n in count():
            if self._stop_it.wait(0.05):
                return
            self._producer.produce_now([self._upload(f"v{10 * n + i}") for i in range(10)])
            self.sent += 10

    def stop(self) -> None:
        self._stop_it.set()
        self.join()

    def _upload(self, video_id: str) -> Message:
        upload = VideoUpload(
            schema_version=1, video_id=video_id, creator_id="c", uploaded_at_ms=now_ms(), title=f"Part {video_id}"
        )
        return Message(self._topic, video_id.encode(), encode(upload))


@pytest.fixture
def stream(settings: Settings) -> Iterator[Stream]:
    producer = ConfirmedProducer(settings)
    made = Stream(settings, producer)
    yield made
    if made.is_alive():
        made.stop()
    producer.close()


def test_a_worker_under_load_follows_promotion_refusal_and_rollback_and_loses_nothing(
    settings: Settings, students: Registry, stream: Stream, vibestream, tmp_path: Path
) -> None:
    fleet = Fleet(with_changes(settings, students=str(students.root)), tmp_path)

    def serving() -> float:
        return total(fleet.metrics("annotate"), "vibestream_student_version", slot="serving")

    def annotated() -> float:
        return total(fleet.metrics("annotate"), "vibestream_annotated_videos_total")

    try:
        fleet.start(["annotate"])
        stream.start()
        wait_until(lambda: annotated() > 0, 30, "annotations flow")
        assert vibestream("promote", students.root, 2) == 0
        wait_until(lambda: serving() == 2, 30, "2 serves")

        damage(students.path(3))
        assert vibestream("promote", students.root, 3) == 2
        (students.root / CURRENT).write_text("3\n2\n1\n")  # past the command's checks
        wait_until(
            lambda: total(fleet.metrics("annotate"), "vibestream_student_refused", slot="serving") == 1, 30, "refused"
        )
        before = annotated()
        wait_until(lambda: annotated() > before, 30, "the old one serves on")
        assert serving() == 2
        (students.root / CURRENT).write_text("2\n1\n")
        wait_until(
            lambda: total(fleet.metrics("annotate"), "vibestream_student_refused", slot="serving") == 0, 30, "mended"
        )
        assert vibestream("rollback", students.root) == 0
        wait_until(lambda: serving() == 1, 30, "1 serves again")
        before = annotated()
        wait_until(lambda: annotated() > before, 30, "and annotates")
        stream.stop()
        wait_until(lambda: annotated() == stream.sent, 30, f"all of {stream.sent} are annotated")
    finally:
        fleet.stop()

    decoder = Decoder(Annotation)
    partitions: dict[int, list[int]] = defaultdict(list)
    videos: list[str] = []
    for record in read_topic(settings, ANNOTATIONS):
        annotation = decoder.decode(record.value or b"")
        videos.append(annotation.video_id)
        assert annotation.student is not None
        seen = partitions[record.partition]
        if seen[-1:] != [annotation.student.version]:
            seen.append(annotation.student.version)
    assert len(videos) == len(set(videos)) == stream.sent
    assert all(seen == [1, 2, 1] for seen in partitions.values()), dict(partitions)


def test_a_promotion_lists_and_only_what_fits_is_let_in(
    settings: Settings, students: Registry, vibestream, capsys: pytest.CaptureFixture[str]
) -> None:
    add_version(students.root.parent, 4, change=elsewhere)
    damage(students.path(3))
    assert vibestream("promote", students.root, 2) == 0
    manifest = add_version(students.root.parent, 6) / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"id":"funny"', b'"id":"droll"'))
    refused = ((3, "sha256"), (4, "lowest cosine"), (5, "manifest.json"), (6, "does not cover the catalogue: funny"))
    for version, reason in refused:
        assert vibestream("promote", students.root, version) == 2
        assert reason in capsys.readouterr().err
    assert students.history() == (2, 1)
    assert vibestream("shadow", students.root, 4) == 0
    assert vibestream("list", students.root) == 1
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()[:1].isdigit()}
    assert [word in rows[n] for n, word in zip("1234", ("before", "serving", "damaged", "shadow"), strict=True)] == [
        True
    ] * 4
    assert vibestream("shadow", students.root, "--off") == 0
    assert students.shadow() is None


def test_a_golden_output_that_does_not_hold_keeps_a_bundle_out(
    students: Registry, vibestream, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = students.path(2) / "manifest.json"
    honest = students.manifest(1).golden
    changed = manifest.read_bytes().partition(b'"golden":')
    assert changed[1]
    other = (students.path(3) / "manifest.json").read_bytes().partition(b'"golden":')
    manifest.write_bytes(changed[0] + changed[1] + other[2])
    assert students.manifest(2).golden != honest
    assert vibestream("promote", students.root, 2) == 2
    assert "golden texts differ" in capsys.readouterr().err
    assert students.history() == (1,)


def test_the_first_promotion_is_held_against_the_student_that_filled_the_table(
    settings: Settings, tmp_path: Path, vibestream, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = registry(tmp_path / "fresh", 1)
    add_version(tmp_path / "fresh", 2, change=elsewhere)
    fill(settings, 3)
    assert vibestream("promote", fresh.root, 2) == 2
    assert "lowest cosine" in capsys.readouterr().err
    assert vibestream("promote", fresh.root, 1) == 0


def test_a_student_of_another_dimension_does_not_fit_the_table(
    settings: Settings, students: Registry, vibestream, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(settings, 3)
    add_version(students.root.parent, 6)
    manifest = students.path(6) / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"dim":128', b'"dim":64'))
    assert vibestream("promote", students.root, 6) == 2
    assert "64" in capsys.readouterr().err


def test_a_registry_and_a_bundle_at_once_are_refused(
    students: Registry, vibestream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIBESTREAM_BUNDLE", str(students.path(1)))
    with pytest.raises(SystemExit) as ended:
        main(["worker", "annotate"])
    assert ended.value.code == 2
    assert "keep one" in capsys.readouterr().err
