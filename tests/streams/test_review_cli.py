"""The first command with a key: what it prints, and one clear line for each way in which it can't."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.fakes.gemini_server import GeminiServer
from tests.topology.test_cli import vibestream
from topology.settings import Settings, with_changes


@pytest.fixture
def keyed(gemini: GeminiServer, tmp_path: Path) -> Settings:
    return Settings(llm="gemini", gemini_api_key="key", gemini_base_url=gemini.url, store_uri=str(tmp_path / "lancedb"))


def annotate(settings: Settings, title: str) -> subprocess.CompletedProcess[str]:
    return vibestream(settings, "annotate", "--llm", "gemini", title)


def test_a_title_is_shown_with_what_student_and_llm_say(keyed: Settings) -> None:
    done = annotate(keyed, "a funny cat")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = (line.split() for line in done.stdout.splitlines() if line.split()[0] == "funny")
    assert line[3:] == ["yes", "llm", "funny"]


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("bad_key", "GEMINI_API_KEY was refused"),
        ("daily_quota", "daily quota is used up"),
        ("rate_limit", "rate limit is reached"),
        ("safety", "gave no answer: Gemini refused to answer: SAFETY"),
    ],
)
def test_what_goes_wrong_is_one_line(keyed: Settings, gemini: GeminiServer, mode: str, says: str) -> None:
    gemini.faults.shares = {mode: 1.0}
    done = annotate(keyed, "a funny cat")
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("vibestream: ")
    assert says in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gemini_api_key": ""}, "GEMINI_API_KEY is empty"),
        ({"gemini_base_url": "http://127.0.0.1:9"}, "Gemini can't be reached"),
        ({"llm_usd_per_day": 1e-9}, "the budget for the LLM is spent"),
    ],
)
def test_what_is_set_up_wrongly_is_one_line(keyed: Settings, changes: dict[str, object], says: str) -> None:
    done = annotate(with_changes(keyed, **changes), "a funny cat")
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert says in line


def test_the_cost_of_a_file_is_estimated_without_asking_or_a_key(keyed: Settings, tmp_path: Path) -> None:
    path = tmp_path / "uploads.jsonl"
    uploads = [
        {"schema_version": 1, "video_id": f"v{i}", "creator_id": "c", "uploaded_at_ms": 1, "title": title}
        for i, title in enumerate(["I did not expect that at all, wow"] * 2 + [f"{n} is not so bad" for n in range(30)])
    ]
    path.write_text("\n".join([*map(json.dumps, uploads), "{"]))
    done = vibestream(with_changes(keyed, gemini_api_key=""), "cost", str(path))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["uploads"], result["invalid"]) == (32, 1)
    assert 0 < result["requests"] < result["to_review"] / 2, "one creator's videos share requests"
    assert result["known"] >= 1
    assert 0 < result["usd"] < result["usd_at_most"]
    assert result["days"] == pytest.approx(result["usd"] / 10, abs=0.01)
