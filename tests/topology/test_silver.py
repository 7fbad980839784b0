"""`vibestream silver` as a person runs it, and as a kill -9 ends it."""

import json
from collections import Counter
from pathlib import Path

import pytest
from pyarrow import csv, parquet

from models.silver_journal import JOURNAL
from models.silver_labels import FAILURES, LABELS
from schemas.attributes import load_catalogue
from tests.fakes.gemini_server import GeminiServer
from tests.processes import Processes, wait_until
from topology.cli import main
from topology.settings import Settings, environment, with_changes

ATTRIBUTES = load_catalogue().ids


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Ten videos of each attribute's words, whose creators nobody knows: each has a request of its own."""
    path = tmp_path / "corpus.jsonl"
    lines = [
        {"video_id": f"{attribute.id}-{i}", "text": f"{attribute.positive_examples[0]} number {i}"}
        for attribute in load_catalogue().attributes
        for i in range(10)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def settings(tmp_path: Path, gemini: GeminiServer) -> Settings:
    return Settings(
        llm="gemini", gemini_api_key="key", gemini_base_url=gemini.url, llm_state=str(tmp_path / "state"),
        llm_items_per_request=4, llm_concurrency=4,
    )  # fmt: skip


@pytest.fixture
def vibestream(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["silver", *map(str, arguments)])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


def journaled(folder: Path) -> list[str]:
    """The videos in a journal, a cut-off last line left out."""
    path = folder / JOURNAL
    lines = path.read_bytes().split(b"\n")[1:-1] if path.exists() else []
    return [json.loads(line)["video_id"] for line in lines]


def test_a_labelling_that_is_killed_goes_on_and_labels_everything_once(
    settings: Settings, corpus: Path, vibestream, gemini: GeminiServer, processes: Processes, tmp_path: Path
) -> None:
    made, out = tmp_path / "sample.csv", tmp_path / "out"
    assert vibestream("sample", corpus, "--size", 150, "--out", made) == 0
    command = ("-m", "topology.cli", "silver", "label", str(made), "--out", str(out))
    gemini.delay_s = 0.05
    process = processes.start(settings, *command)
    wait_until(lambda: len(journaled(out)) >= 32 or process.poll() is not None, 60, "some are labelled")
    process.kill()
    process.wait()
    kept = journaled(out)
    assert 0 < len(kept) < 150, "it was not in the middle"
    with (out / JOURNAL).open("ab") as journal:
        journal.write(b'{"video_id":"cut o')
    answered = Counter(gemini.ledger.answered)
    gemini.delay_s = 0.0

    assert vibestream("label", made, "--out", out) == 0
    assert Counter(journaled(out)) == dict.fromkeys([row["video_id"] for row in csv.read_csv(made).to_pylist()], 1)
    cells = Counter((row["video_id"], row["attribute"]) for row in parquet.read_table(out / LABELS).to_pylist())
    cells.update((row["video_id"], row["attribute"]) for row in csv.read_csv(out / FAILURES).to_pylist())
    assert len(cells) == 150 * len(ATTRIBUTES)
    assert set(cells.values()) == {1}
    again = Counter(gemini.ledger.answered) - answered
    asked_again = [text for text in again if answered[text]]
    assert len(asked_again) <= settings.llm_concurrency, "no more than what was under way"
    texts = {row["video_id"]: row["text"] for row in csv.read_csv(made).to_pylist()}
    assert not any(texts[video] in text for text in asked_again for video in kept)

    before = gemini.ledger.requests
    assert vibestream("label", made, "--out", out) == 0
    assert gemini.ledger.requests == before


def test_labels_of_the_llm_are_those_of_the_video_and_go_into_distil(
    corpus: Path, vibestream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, out = tmp_path / "sample.parquet", tmp_path / "out"
    assert vibestream("sample", corpus, "--size", 100, "--clusters", 5, "--out", made) == 0
    assert "100 of 150 videos" in capsys.readouterr().out
    assert vibestream("label", made, "--estimate", "--out", out) == 0
    assert "100 videos to label" in capsys.readouterr().err
    assert not out.exists()
    assert vibestream("label", made, "--out", out) == 0
    said = capsys.readouterr()
    assert "US dollars" in said.err
    assert f"{100 * len(ATTRIBUTES)} labels of 100 videos; 0 failures" in said.out
    rows = parquet.read_table(out / LABELS).to_pylist()
    assert {row["text"] for row in rows} == {row["text"] for row in parquet.read_table(made).to_pylist()}
    assert all(row["label"] for row in rows if row["attribute"] in row["text"].split())


def test_a_blocked_video_is_a_failure_with_its_reason_and_the_rest_is_labelled(vibestream, tmp_path: Path) -> None:
    made, out = tmp_path / "sample.csv", tmp_path / "out"
    made.write_text("video_id,text,sampling_prob\ngood,funny cat,1\nbad,[[safety]] dog,1\nfine,eerie house,1\n")
    assert vibestream("label", made, "--out", out) == 0
    failures = csv.read_csv(out / FAILURES).to_pylist()
    assert {row["video_id"] for row in failures} == {"bad"}
    assert [row["attribute"] for row in failures] == list(ATTRIBUTES)
    assert all(row["reason"] for row in failures)
    assert {row["video_id"] for row in parquet.read_table(out / LABELS).to_pylist()} == {"good", "fine"}


def test_what_there_is_no_money_for_is_left_and_said(
    settings: Settings, corpus: Path, vibestream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    made, out = tmp_path / "sample.csv", tmp_path / "out"
    assert vibestream("sample", corpus, "--size", 100, "--out", made) == 0
    for name, value in environment(with_changes(settings, llm_usd_per_day=0.05)).items():
        monkeypatch.setenv(name, value)
    assert vibestream("label", made, "--out", out) == 1
    said = capsys.readouterr()
    assert "left for the next run: the budget for the LLM is spent" in said.err
    labelled = len(journaled(out))
    assert 0 < labelled < 100
    assert f"{(100 - labelled) * len(ATTRIBUTES)} left to ask" in said.out


def test_answers_that_are_there_need_no_llm(vibestream, gemini: GeminiServer, tmp_path: Path) -> None:
    made, out, answers = tmp_path / "sample.csv", tmp_path / "out", tmp_path / "answers.csv"
    made.write_text("video_id,text,sampling_prob\na,funny cat,1\nb,dog,1\n")
    answers.write_text("video,attribute,label\nb,eerie,1\na,funny,1\n")
    assert vibestream("label", made, "--answers", answers, "--out", out) == 0
    rows = parquet.read_table(out / LABELS).to_pylist()
    assert {(row["video_id"], row["attribute"], row["label"]) for row in rows} == {("a", "funny", 1), ("b", "eerie", 1)}
    assert gemini.ledger.requests == 0
