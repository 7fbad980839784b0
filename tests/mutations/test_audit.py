"""The audit sees every way of losing, doubling or missing something that we thought of, and a sound build passes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.mutations.builds import Inserted, Replaced, make_build
from topology.settings import Settings, environment

_AT_ONCE = 2


@dataclass(frozen=True)
class Broken:
    """A change, and the count of the audit that must show it."""

    change: Inserted | Replaced
    seen_as: tuple[str, str]


BROKEN = {
    "annotate drops every 50th upload": Broken(
        Inserted(
            "streams/annotate.py",
            "AnnotateStage.process",
            "items = [item for item in items if item.record.offset % 50 != 49]",
        ),
        ("uploads", "lost"),
    ),
    "annotate ignores take-downs": Broken(
        Inserted(
            "streams/annotate.py",
            "AnnotateStage.process",
            "items = [item for item in items if not isinstance(item.event, TakeDown)]",
        ),
        ("uploads", "lost"),
    ),
    "annotate keeps the older content of a video": Broken(
        Inserted("streams/annotate.py", "AnnotateStage.process", "items = [i for i in items if i.record.offset >= 20]"),
        ("uploads", "lost"),
    ),
    "what can't be used makes no dead letter": Broken(
        Inserted("streams/stage.py", "Stage.refuse", "return []"), ("uploads", "lost")
    ),
    "the store skips the first annotation of a run": Broken(
        Inserted("streams/store.py", "StoreStage.process", "items = items[1:]"), ("store", "missing")
    ),
    "the store ignores removals": Broken(
        Inserted(
            "streams/store.py",
            "StoreStage.process",
            "items = [item for item in items if item.event.status != 'removed']",
        ),
        ("store", "stale"),
    ),
    "the store writes a video twice": Broken(
        Inserted("streams/attribute_table.py", "_newest_per_video", "return rows"), ("store", "duplicates")
    ),
    "the last annotation to come wins": Broken(
        Replaced("streams/common_row.py", "target.seq < source.seq OR ", "true OR "), ("store", "stale")
    ),
}
BUILDS = {"sound": None, **{name: broken.change for name, broken in BROKEN.items()}}
Audited = dict[str, Future[subprocess.CompletedProcess[str]]]


@pytest.fixture(scope="module")
def audited(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    def run(number: int, name: str) -> subprocess.CompletedProcess[str]:
        folder = tmp_path_factory.mktemp(f"build{number}")
        settings = Settings(
            broker=broker, topic_prefix=f"{folder.name}-{folder.parent.name}.", partitions=1,
            store_uri=str(folder / "lancedb"),
        )  # fmt: skip
        return subprocess.run(
            [sys.executable, "flow.py"],
            cwd=make_build(folder, BUILDS[name]), env=environment(settings), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    tmp_path_factory.getbasetemp()  # is made by the first who asks, and threads at once would race
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {name: pool.submit(run, number, name) for number, name in enumerate(BUILDS)}


def test_a_sound_build_passes(audited: Audited) -> None:
    done = audited["sound"].result()
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["uploads"] == {"records": 60, "videos": 45, "dead_lettered": 2, "lost": 0}
    assert found["annotations"]["removed"] == 3
    assert (found["store"]["rows"], found["examples"]) == (45, [])


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_build_is_seen_and_its_damage_named(audited: Audited, name: str) -> None:
    done = audited[name].result()
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads(done.stdout)
    part, count = BROKEN[name].seen_as
    assert found[part][count] > 0
    assert found["examples"] or count == "duplicates"  # those are counted, not named
