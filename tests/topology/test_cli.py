"""The command line as a person runs it: exit codes, and one clear line when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from topology.settings import Settings, environment, with_changes

_NOBODY = "kafka://127.0.0.1:1"  # a port below 1024 that nothing here listens on
_GEMINI = {"llm": "gemini", "gemini_api_key": "key"}


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
        ({"broker": _NOBODY}, ("topics", "ensure"), f"no Kafka broker answers at {_NOBODY}"),
        ({"broker": _NOBODY}, ("worker", "annotate"), f"no Kafka broker answers at {_NOBODY}"),
        ({"topic_prefix": "none."}, ("worker", "store"), "create it with: vibestream topics ensure"),
        ({"topic_prefix": "none."}, ("ui",), "create it with: vibestream topics ensure"),
        ({"store_uri": "/proc/nowhere/lancedb"}, ("worker", "store"), "/proc/nowhere/lancedb"),
        ({"store_uri": "/proc/nowhere/lancedb"}, ("worker", "session"), "/proc/nowhere/lancedb"),
        ({**_GEMINI, "llm_state": "/proc/nowhere"}, ("worker", "review"), "see VIBESTREAM_LLM_STATE"),
        ({**_GEMINI, "llm_redis": "redis://127.0.0.1:1/0"}, ("worker", "review"), "see VIBESTREAM_LLM_REDIS"),
        ({"store_shards": 3}, ("worker", "store"), "VIBESTREAM_STORE_SHARDS=3"),
        ({"labeler": "/nowhere"}, ("worker", "session"), "labeler /nowhere"),
        ({"students": "/nowhere"}, ("worker", "annotate"), "/nowhere has no CURRENT"),
        ({"media_allow": ""}, ("worker", "media"), "VIBESTREAM_MEDIA_ALLOW is empty"),
        ({"http_host": "0.0.0.0"}, ("ui",), "without VIBESTREAM_HTTP_TOKEN"),
        ({"llm": "gemini"}, ("demo",), "the review worker: GEMINI_API_KEY is empty"),
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
    *before, last = done.stderr.splitlines()
    assert done.returncode == 2
    assert last.startswith("vibestream: ")
    assert says in last
    assert not [
        line for line in before if any(word in line for word in ("Traceback", "ERROR", "WARNING", "vibestream:"))
    ]


def test_an_unknown_role_is_refused_with_the_roles() -> None:
    done = vibestream(Settings(), "worker", "annotator")
    assert done.returncode == 2
    assert "annotate" in done.stderr
    assert "review" in done.stderr


@pytest.mark.parametrize("arguments", [("worker", "annotate"), ("lag-exporter",)])
def test_a_metrics_port_that_is_taken_is_named(settings: Settings, broker: str, arguments: tuple[str, ...]) -> None:
    taken = int(broker.rpartition(":")[2])
    done = vibestream(with_changes(settings, metrics_port=taken), *arguments)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"VIBESTREAM_METRICS_PORT={taken}" in line


def test_a_port_of_the_page_that_is_taken_is_named(settings: Settings, broker: str) -> None:
    taken = broker.rpartition(":")[2]
    done = vibestream(settings, "ui", "--port", taken)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"--port {taken}" in line


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
