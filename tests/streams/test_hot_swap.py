"""A stage under a steady stream of runs while the registry names other students."""

import asyncio
import math
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import REGISTRY

from models.registry import CURRENT, Registry
from models.student import Student
from schemas.annotation import Annotation
from schemas.attributes import load_catalogue
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from streams.annotate import AnnotateStage
from streams.record import Record
from streams.shadow import Shadow
from streams.students import LiveStudent, RegistryFollower
from tests.fakes.bundles import add_version, damage, elsewhere, registry

CATALOGUE = load_catalogue()
NOW_MS = 1_750_000_000_000


@pytest.fixture
def students(tmp_path: Path) -> Registry:
    found = registry(tmp_path, 3)
    found.promote(1)
    return found


def load(path: Path) -> Student:
    return Student.load(path, CATALOGUE)


class Live(NamedTuple):
    stage: AnnotateStage
    student: LiveStudent
    follower: RegistryFollower


@asynccontextmanager
async def live(students: Registry, share: float = 0.0) -> AsyncIterator[Live]:
    student = LiveStudent(load(students.path(students.current())))
    stage = AnnotateStage(student, annotations="annotations", review_requests="reviews", dead_letters="dead")
    follower = RegistryFollower(student, students, load, shadow_share=share, poll_s=0.02)
    try:
        yield Live(stage, student, follower)
    finally:
        await follower.close()
        await stage.close()


async def annotate(stage: AnnotateStage, run: int, size: int = 20) -> list[Annotation]:
    """Send a run of uploads; return its annotations."""
    records = [
        Record("video-uploads", 0, run * size + i, NOW_MS, b"v%d" % i, encode(_upload(f"v{i}"))) for i in range(size)
    ]
    effects = await stage.run(records)
    return [Decoder(Annotation).decode(m.value or b"") for m in effects.messages if m.topic == "annotations"]


def _upload(video_id: str) -> VideoUpload:
    title = f"I love my grandma so much, part {video_id}"
    return VideoUpload(schema_version=1, video_id=video_id, creator_id="c", uploaded_at_ms=NOW_MS - 1, title=title)


def version(made: list[Annotation]) -> int:
    """The one version that annotated a run."""
    (found,) = {one.student.version for one in made if one.student}
    return found


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def until(condition: Callable[[], bool], what: str, meanwhile: Callable[[], Awaitable[object]]) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, what
        await meanwhile()


async def test_under_a_steady_stream_versions_change_between_runs_and_never_within(students: Registry) -> None:
    runs: list[list[Annotation]] = []
    async with live(students) as (stage, student, follower):
        follower.start()

        async def one_run() -> None:
            runs.append(await annotate(stage, len(runs)))
            await asyncio.sleep(0)

        for target in (1, 2, 3):
            students.promote(target)
            await until(lambda target=target: student.current.version.version == target, f"{target} serves", one_run)
            await one_run()
        students.rollback()
        await until(lambda: student.current.version.version == 2, "rolled back", one_run)
        await one_run()
    assert all(len(made) == 20 for made in runs)
    seen = [version(made) for made in runs]
    assert [v for i, v in enumerate(seen) if i == 0 or v != seen[i - 1]] == [1, 2, 3, 2]
    by_version = {v: made[0].attributes["heartwarming"].p for v, made in zip(seen, runs, strict=True)}
    assert by_version[1] < by_version[2] < by_version[3]


async def test_runs_that_overlap_a_swap_are_finished_by_the_student_that_began_them(students: Registry) -> None:
    async with live(students) as (stage, student, follower):
        begun = [asyncio.create_task(annotate(stage, i, 200)) for i in range(5)]
        await asyncio.sleep(0)
        students.promote(2)
        await follower.poll()
        after = await annotate(stage, 5)
        assert [version(made) for made in await asyncio.gather(*begun)] == [1] * 5
        assert version(after) == student.current.version.version == 2


def _changed_space(students: Registry) -> None:
    shutil.rmtree(students.path(2))
    add_version(students.root.parent, 2, change=elsewhere)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda students: damage(students.path(2)), "sha256"),
        (lambda students: shutil.rmtree(students.path(2)), "manifest.json"),
        (_changed_space, "lowest cosine"),
        (lambda students: (students.root / CURRENT).write_text("two"), "holds version numbers"),
        (lambda students: (students.root / CURRENT).unlink(), "student promote"),
    ],
)
async def test_a_bad_bundle_is_refused_once_with_its_reason_while_the_old_one_serves(
    students: Registry, spoil: Callable[[Registry], object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with live(students) as (stage, _, follower):
        students.promote(2)
        spoil(students)
        before = counted("vibestream_student_loads_total", slot="serving", outcome="refused")
        await follower.poll()
        await follower.poll()
        assert version(await annotate(stage, 0)) == 1
        assert counted("vibestream_student_loads_total", slot="serving", outcome="refused") == before + 1
        assert counted("vibestream_student_refused", slot="serving") == 1
        assert [reason in record.getMessage() for record in caplog.records] == [True]

        (students.root / CURRENT).write_text("3\n1\n")
        await follower.poll()
        assert version(await annotate(stage, 1)) == 3
        assert counted("vibestream_student_refused", slot="serving") == 0


async def test_a_refused_bundle_is_tried_again_when_its_files_are_mended(students: Registry) -> None:
    model = (students.path(2) / "model.onnx").read_bytes()
    async with live(students) as (stage, _, follower):
        damage(students.path(2))
        students.promote(2)
        await follower.poll()
        assert version(await annotate(stage, 0)) == 1
        (students.path(2) / "model.onnx").write_bytes(model)
        await follower.poll()
        assert version(await annotate(stage, 1)) == 2


async def test_a_shadow_is_compared_per_attribute_and_changes_no_annotation(students: Registry) -> None:
    names = ("vibestream_shadow_disagreements_total", "vibestream_shadow_difference_total")
    compared = counted("vibestream_shadow_videos_total", outcome="compared")
    before = counted(names[1], attribute="heartwarming")
    async with live(students, share=1.0) as (stage, student, follower):
        plain = await annotate(stage, 0)
        students.set_shadow(3)
        await follower.poll()
        assert (student.shadow, counted("vibestream_student_version", slot="shadow")) == (3, 3)
        shadowed = await annotate(stage, 0)
        assert version(shadowed) == 1
        assert [one.attributes for one in shadowed] == [one.attributes for one in plain]
        students.set_shadow(None)
        await follower.poll()  # what was drawn is compared before the shadow goes
        assert student.shadow is None
    assert counted("vibestream_shadow_videos_total", outcome="compared") == compared + 20
    mean = (counted(names[1], attribute="heartwarming") - before) / 20
    p = shadowed[0].attributes["heartwarming"].p
    assert mean == pytest.approx(1 / (1 + (1 / p - 1) * math.exp(-2)) - p, abs=0.05)
    assert sum(counted(names[0], attribute=a, kind=kind) for a in CATALOGUE.ids for kind in ("label", "band")) > 0


async def test_a_shadow_that_agrees_disagrees_nowhere(students: Registry) -> None:
    same = load(students.path(1))
    texts = [title for attribute in CATALOGUE.attributes for title in attribute.positive_examples]
    serving = load(students.path(1))
    scores = await serving.score(texts)
    kinds = [(a, kind) for a in CATALOGUE.ids for kind in ("label", "band")]
    before = [counted("vibestream_shadow_disagreements_total", attribute=a, kind=kind) for a, kind in kinds]
    shadow = Shadow(same, share=1.0)
    shadow.offer(texts, serving, scores.probability)
    await shadow.close()
    serving.close()
    after = [counted("vibestream_shadow_disagreements_total", attribute=a, kind=kind) for a, kind in kinds]
    assert after == before


async def test_a_shadow_that_is_behind_drops_and_nobody_waits_for_it(students: Registry) -> None:
    before = {
        outcome: counted("vibestream_shadow_videos_total", outcome=outcome) for outcome in ("compared", "dropped")
    }
    async with live(students, share=1.0) as (stage, _, follower):
        students.set_shadow(2)
        await follower.poll()
        made = await annotate(stage, 0, 3_000)
        assert len(made) == 3_000
    after = {outcome: counted("vibestream_shadow_videos_total", outcome=outcome) for outcome in before}
    assert after["dropped"] > before["dropped"]
    assert sum(after.values()) - sum(before.values()) == 3_000


async def test_a_shadow_whose_files_are_damaged_is_refused_and_the_stage_goes_on(students: Registry) -> None:
    damage(students.path(2))
    students.set_shadow(2)
    async with live(students, share=1.0) as (stage, student, follower):
        await follower.poll()
        assert student.shadow is None
        assert counted("vibestream_student_refused", slot="shadow") == 1
        assert version(await annotate(stage, 0)) == 1


async def test_without_a_share_no_shadow_is_loaded(students: Registry) -> None:
    students.set_shadow(2)
    async with live(students, share=0.0) as (_, student, follower):
        await follower.poll()
        assert student.shadow is None
