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


def test_the_cost_of_videos_that_gemini_may_see_is_counted_as_it_bills_them(keyed: Settings, tmp_path: Path) -> None:
    seeing = with_changes(
        keyed, gemini_video=True, media_allow="https://cdn.example.com/day/", gemini_video_uris="gs://clips/"
    )
    uris = {
        "https://cdn.example.com/day/a.mp4": 4_000,
        "https://cdn.example.com/day/b.mp4": None,
        "gs://clips/c.mp4": 600_000,
        "https://cdn.example.com/night/d.mp4": 4_000,
        None: 4_000,
    }

    def cost(settings: Settings, uri: str | None, duration_ms: int | None) -> dict[str, int]:
        path = tmp_path / "uploads.jsonl"
        upload = {
            "schema_version": 1, "video_id": "v", "creator_id": "c", "uploaded_at_ms": 1,
            "title": "I did not expect that at all, wow", "media_uri": uri, "duration_ms": duration_ms,
        }  # fmt: skip
        path.write_text(json.dumps(upload))
        done = vibestream(settings, "cost", str(path))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    told = cost(keyed, next(iter(uris)), 4_000)
    assert (told["requests"], told["videos"], told["video_tokens"]) == (1, 0, 0)
    found = {uri: cost(seeing, uri, duration_ms) for uri, duration_ms in uris.items()}
    assert [one["videos"] for one in found.values()] == [1, 1, 1, 0, 0]
    tokens = [one["video_tokens"] for one in found.values()]
    assert tokens[:3] == pytest.approx([5 * (66 + 32), 61 * (66 + 32), 61 * (66 + 32)], abs=400)
    assert tokens[3:] == [0, 0]
    for one in found.values():
        assert one["input_tokens"] == pytest.approx(told["input_tokens"] + one["video_tokens"], abs=50)
