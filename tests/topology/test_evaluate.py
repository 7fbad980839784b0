"""`vibestream golden` and `vibestream evaluate` as a person runs them."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from models.bundle import default_bundle, load_manifest
from models.golden import release_reads, split_of
from schemas.attributes import load_catalogue
from tests.fakes.gemini_server import GeminiServer
from topology.cli import main

TEXTS = {"funny": "lol this is hilarious, I can't stop laughing", "grateful": "Thank you so much for your help"}


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A third of 120 videos says funny things, a third thanks, and three raters see it."""
    path = tmp_path / "ratings.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "attribute", "rater", "label", "sampling_prob", "text"])
        for i in range(120):
            text = [TEXTS["funny"], TEXTS["grateful"], "The bus stops here"][i % 3] + f" number {i}"
            for attribute in TEXTS:
                for rater in "abc":
                    writer.writerow([f"v{i}", attribute, rater, int(TEXTS[attribute] in text), 1, text])
    assert run("golden", "import", path, "--out", tmp_path / "set") == 0
    return tmp_path / "set"


def answers(path: Path, wrong: int) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "attribute", "label", "usd"])
        for i in range(120):
            for n, attribute in enumerate(TEXTS):
                writer.writerow([f"v{i}", attribute, int((i % 3 == n) != (i % 10 < wrong)), 0.001])
    return path


def test_a_student_is_evaluated_with_tables_json_and_a_page(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    assert run("evaluate", "--bundle", default_bundle(), "--golden", golden, "--json", out, "--html", page) == 0
    found = json.loads(out.read_text())
    assert set(found["attributes"]) == set(TEXTS)
    assert found["macro_f1"] > 0.9
    assert (found["ece_bins"], found["macro_over"]) == (15, 2)
    assert found["videos_per_cpu_s"] > 0
    assert found["attributes"]["funny"]["alt_test"]["raters"] == 3
    assert page.read_text().startswith("<!doctype html>")
    assert "macro F1" in capsys.readouterr().out


def test_the_gates_decide_the_exit_code(golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    good, bad = answers(tmp_path / "good.csv", 0), answers(tmp_path / "bad.csv", 3)
    against = ("evaluate", "--golden", golden, "--answers")
    assert run(*against, good, "--min-f1", 0.99) == 0
    assert run(*against, bad, "--min-f1", 0.99) == 1
    assert "failed: macro F1" in capsys.readouterr().out
    assert run(*against, good, "--against", bad, "--min-delta", 0) == 0
    assert run(*against, good, "--against", good, "--min-delta", 0) == 1
    assert run(*against, bad, "--against", good, "--min-delta", -0.01) == 1


def test_an_llm_is_asked_and_its_answers_can_be_compared_with_later(
    golden: Path, tmp_path: Path, gemini: GeminiServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GEMINI_API_KEY", "key")
    monkeypatch.setenv("VIBESTREAM_GEMINI_BASE_URL", gemini.url)
    monkeypatch.chdir(tmp_path)
    saved, out = tmp_path / "saved.csv", tmp_path / "out.json"
    arguments = ("evaluate", "--golden", golden, "--attributes", "funny", "--json", out)
    assert run(*arguments, "--llm", "gemini", "--save-answers", saved) == 0
    asked = json.loads(out.read_text())
    assert asked["effort"]["input_tokens"] > 0
    assert asked["effort"]["latency_p95_ms"] > 0
    assert "prompt vibe" in asked["system"]
    assert run(*arguments, "--answers", saved) == 0
    assert json.loads(out.read_text())["attributes"] == asked["attributes"]


def test_the_release_test_is_read_only_when_asked_for_and_that_is_recorded(golden: Path, tmp_path: Path):
    good = answers(tmp_path / "good.csv", 0)
    out = tmp_path / "out.json"
    assert run("evaluate", "--golden", golden, "--answers", good) == 0
    assert not (golden / "release-reads.jsonl").exists()
    assert run("evaluate", "--golden", golden, "--answers", good, "--release") == 0
    assert run("golden", "report", golden, "--release", "--answers", good, "--json", out) == 0
    reads = json.loads(out.read_text())["release_reads"]
    assert [read["purpose"] for read in reads] == [f"evaluate {good}", "golden report of good.csv"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--answers", "/nowhere.csv"), "/nowhere.csv is no folder of a bundle, no file"),
        (("--bundle", "/nowhere"), "/nowhere is no folder of a bundle, no file"),
        (("--answers", "a.csv", "--min-delta", "0"), "--against"),
        (("--bundle", default_bundle(), "--attributes", "eerie"), "has no ratings of eerie"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line_and_exit_2(
    golden: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], says: str
):
    assert run("evaluate", "--golden", golden, *arguments) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_goemotions_needs_a_student_of_its_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "split.tsv"
    file.write_text("a text\t27\tid\n")
    arguments = ("evaluate", "--bundle", default_bundle(), "--data", file)
    assert run(*arguments, "--format", "goemotions") == 2
    assert "needs one for each of its 28 labels" in capsys.readouterr().err
    assert run(*arguments) == 2
    assert "--format goemotions" in capsys.readouterr().err


def test_answers_that_are_about_other_videos_are_refused(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = tmp_path / "other.csv"
    other.write_text("video,attribute,label\nw1,funny,1\n")
    assert run("evaluate", "--golden", golden, "--answers", other) == 2
    assert "answers nothing that" in capsys.readouterr().err
    other.write_text("video,attribute,label\nv1,funny,perhaps\n")
    assert run("evaluate", "--golden", golden, "--answers", other) == 2
    assert "row 2: label 'perhaps'" in capsys.readouterr().err


def test_the_shipped_bundle_fixes_a_threshold_for_each_attribute_of_the_catalogue():
    thresholds = {attribute.id: attribute.threshold for attribute in load_manifest(default_bundle()).attributes}
    assert list(thresholds) == list(load_catalogue().ids)
    assert all(0 < threshold < 1 for threshold in thresholds.values())


def test_the_dev_labels_of_a_golden_set_distil_a_certified_student_and_the_release_test_stays_out(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    toml = "".join(
        f'[[attributes]]\nid = "{name}"\nname = "x"\nversion = 1\ndefinition = "x"\nincludes = ["x"]\n'
        'positive_examples = ["x"]\ntarget_precision = 0.6\ntarget_recall = 0.5\n'
        for name in TEXTS
    )
    (tmp_path / "catalogue.toml").write_text(toml)
    monkeypatch.setenv("VIBESTREAM_CATALOGUE", str(tmp_path / "catalogue.toml"))
    labels, out = tmp_path / "labels.parquet", tmp_path / "students"
    assert run("golden", "export", golden, "--out", labels) == 0
    videos = set(pq.read_table(labels)["video_id"].to_pylist())
    assert videos == {f"v{i}" for i in range(120) if split_of(f"v{i}") == "dev"}
    assert not release_reads(golden)

    given = answers(tmp_path / "answers.csv", wrong=0)
    assert run("distil", labels, "--out", out, "--answers", given, "--certify-share", 0.4) == 0
    manifest = load_manifest(out / "nano" / "1")
    assert manifest.certificate is not None
    assert "answers.csv" in manifest.certificate.answers
    assert manifest.certificate.texts == round(0.4 * len(videos))
    assert {one.id: one.certified for one in manifest.attributes} == dict.fromkeys(TEXTS, True)
