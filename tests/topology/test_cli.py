"""The command line as a person runs it: exit codes, and one clear line when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from topology.broker import free_port
from topology.settings import Settings, environment, with_changes


def vibestream(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "topology.cli", *arguments],
        env=environment(settings), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_help_names_every_command_and_a_first_step() -> None:
    done = vibestream(Settings(), "--help")
    assert done.returncode == 0
    for word in ("worker", "topics", "replay", "demo", "audit", "settings", "VIBESTREAM_BROKER", "A first run"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("changes", "arguments", "says"),
    [
        ({"broker": f"kafka://127.0.0.1:{free_port()}"}, ("topics", "ensure"), "no Kafka broker answers at kafka://"),
        ({"bundle": "/nowhere"}, ("worker", "annotate"), "/nowhere"),
        ({"catalogue": "/nowhere.toml"}, ("worker", "annotate"), "/nowhere.toml"),
        ({"llm": "gemini"}, ("worker", "review"), "GEMINI_API_KEY is empty"),
        ({"provider": "cuda"}, ("worker", "annotate"), "vibestream[gpu]"),
        ({}, ("replay", "/nowhere.jsonl", "video-uploads"), "/nowhere.jsonl"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_value(
    settings: Settings, changes: dict[str, object], arguments: tuple[str, ...], says: str
) -> None:
    done = vibestream(with_changes(settings, **changes), *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("vibestream: ")
    assert says in done.stderr.splitlines()[-1]


def test_an_unknown_role_is_refused_with_the_roles() -> None:
    done = vibestream(Settings(), "worker", "annotator")
    assert done.returncode == 2
    assert "annotate" in done.stderr
    assert "review" in done.stderr


def test_a_metrics_port_that_is_taken_is_named(settings: Settings, broker: str) -> None:
    taken = int(broker.rpartition(":")[2])
    done = vibestream(with_changes(settings, metrics_port=taken), "worker", "annotate")
    assert done.returncode == 2
    assert f"VIBESTREAM_METRICS_PORT={taken}" in done.stderr


def test_replay_sends_and_audit_counts_what_is_not_accounted_for(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "uploads.jsonl"
    lines = [{"schema_version": 1, "video_id": f"v{i}", "creator_id": "c", "uploaded_at_ms": 1} for i in range(3)]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    assert vibestream(settings, "audit").returncode == 0
    assert "3 events sent" in vibestream(settings, "replay", str(path), "video-uploads").stdout
    done = vibestream(settings, "audit")
    assert done.returncode == 1
    assert json.loads(done.stdout)["uploads"] == {"records": 3, "videos": 3, "dead_lettered": 0, "lost": 3}


def test_audit_without_topics_says_how_to_make_them(broker: str, tmp_path: Path) -> None:
    done = vibestream(Settings(broker=broker, topic_prefix="none.", store_uri=str(tmp_path)), "audit")
    assert done.returncode == 2
    assert "vibestream topics ensure" in done.stderr


def test_topics_ensure_reports_what_it_created(broker: str) -> None:
    settings = Settings(broker=broker, topic_prefix=f"{uuid4().hex[:12]}.", partitions=1)
    assert f"created {settings.topic('video-uploads')}" in vibestream(settings, "topics", "ensure").stdout
    assert "all topics are there" in vibestream(settings, "topics", "ensure").stdout
