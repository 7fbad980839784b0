"""Students distilled with certified bands, from texts whose words give their labels away."""

import csv
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.band_path import Rates
from models.bundle import Manifest, load_manifest
from models.distil import Title, distil
from models.distil_bands import Trial, answered, hold_out, stated
from models.distil_formats import SOURCES
from models.distil_rows import Rows, rows_of
from models.goemotions import LABELS, read_goemotions
from models.nano import Nano, fit_nano
from models.student import Student
from schemas.annotation import AnnotatorVersion
from schemas.errors import ConfigurationError
from tests.fakes.corpus import CATALOGUE, write_split

PERFECT = Rates(1.0, 1.0)
ANNOTATOR = AnnotatorVersion("gemini", "flash", "vibe", 2, "abc")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    path = write_split(tmp_path_factory.mktemp("corpus") / "train.tsv.gz", 900, seed=1)
    read = rows_of(read_goemotions(path, LABELS, CATALOGUE))
    return Rows(read.texts, read.q, read.weight, read.golden, [f"v{i}" for i in range(len(read.texts))])


@pytest.fixture(scope="module")
def fitted(rows: Rows) -> Nano:
    return fit_nano(hold_out(rows, 0.4, 1).learn, 1, lambda: None)


def distilled(fitted: Nano, rows: Rows, trial: Trial, out: Path) -> tuple[Path, Manifest]:
    path = distil(fitted, rows, None, CATALOGUE, Title("nano", 1, SOURCES["goemotions"], 1), out, trial)
    return path, load_manifest(path)


def test_what_is_learned_tried_and_proven_on_are_different_texts_and_all_of_them(rows: Rows):
    held = hold_out(rows, 0.4, 1)
    assert [len(part.texts) for part in held] == [432, 108, 360]
    assert sorted(video for part in held for video in part.videos) == sorted(rows.videos)
    assert hold_out(rows, 0.4, 1).proof.videos == held.proof.videos
    assert hold_out(rows, 0.4, 2).proof.videos != held.proof.videos


def test_only_texts_labelled_by_people_certify(rows: Rows):
    by_people = np.zeros_like(rows.golden)
    by_people[:100] = True
    held = hold_out(Rows(rows.texts, rows.q, rows.weight, by_people), 0.4, 1)
    assert len(held.proof.texts) == 40
    assert held.proof.golden.all()
    with pytest.raises(ConfigurationError, match="0 of 900 texts have golden labels.*--certify-share"):
        hold_out(Rows(rows.texts, rows.q, rows.weight, np.zeros_like(by_people)), 0.4, 1)


def test_a_bundle_says_what_its_certified_bands_rest_on(fitted: Nano, rows: Rows, tmp_path: Path):
    held = hold_out(rows, 0.4, 1)
    path, manifest = distilled(fitted, held.learn, stated(held, PERFECT), tmp_path)
    assert manifest.certified
    assert {one.id: (one.certified, one.reason) for one in manifest.attributes} == dict.fromkeys(
        CATALOGUE.ids, (True, None)
    )
    assert manifest.certificate is not None
    assert (manifest.certificate.texts, manifest.certificate.pilot_texts) == (360, 108)
    assert "stated, not measured" in manifest.certificate.answers
    for attribute in CATALOGUE.attributes:
        proof = manifest.certificate.attributes[attribute.id]
        assert proof.positives > 20
        assert (proof.precision or 0) > attribute.target_precision
        assert (proof.recall or 0) > attribute.target_recall
    card = (path / "README.md").read_text()
    assert "4 of 4 attributes are certified" in card
    assert "stated, not measured" in card
    student = Student.load(path)
    student.close()
    assert student.certified == frozenset(CATALOGUE.ids)


def test_what_cannot_be_proven_is_uncertified_with_a_reason_and_a_band(fitted: Nano, rows: Rows, tmp_path: Path):
    held = hold_out(rows, 0.4, 1)
    eerie = CATALOGUE.ids.index("eerie")
    few = held.proof.golden.copy()
    few[40:, eerie] = False
    proof = Rows(held.proof.texts, held.proof.q, held.proof.weight, few)
    unlabelled = held.pilot.weight.copy()
    unlabelled[:, CATALOGUE.ids.index("funny")] = 0
    pilot = Rows(held.pilot.texts, held.pilot.q, unlabelled, held.pilot.golden)
    trial = Trial(pilot, proof, [PERFECT] * 4, None, "none")
    path, manifest = distilled(fitted, held.learn, trial, tmp_path)
    found = {one.id: one for one in manifest.attributes}
    assert {name: one.certified for name, one in found.items()} == {
        "funny": False, "heartwarming": True, "eerie": False, "deadpan": True,
    }  # fmt: skip
    assert "positives to certify on" in (found["eerie"].reason or "")
    assert found["funny"].reason == "none of the 108 texts of the pilot has a label of it"
    assert all(0 <= one.lo <= one.hi <= 1 for one in found.values())
    assert not manifest.certified
    assert "- eerie is not certified: no band is proven" in (path / "README.md").read_text()


def test_without_a_trial_nothing_is_certified_and_the_bundle_says_why(fitted: Nano, rows: Rows, tmp_path: Path):
    title = Title("nano", 1, SOURCES["goemotions"], 1)
    manifest = load_manifest(distil(fitted, hold_out(rows, 0.4, 1).learn, None, CATALOGUE, title, tmp_path))
    assert manifest.certificate is None
    assert not manifest.certified
    assert all(not one.certified and "neither rates nor answers" in (one.reason or "") for one in manifest.attributes)


def write_answers(path: Path, rows: Rows, *, asked: float = 1.0, wrong: float = 0.0) -> Path:
    rng = np.random.default_rng(5)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "attribute", "label", "annotator"])
        for i, a in np.argwhere(rng.random(rows.q.shape) < asked):
            label = int((rows.q[i, a] > 0.5) != (rng.random() < wrong))
            writer.writerow([rows.videos[i], CATALOGUE.ids[a], label, msgspec.json.encode(ANNOTATOR).decode()])
    return path


def test_answers_of_the_llm_certify_by_their_own_errors(fitted: Nano, rows: Rows, tmp_path: Path):
    held = hold_out(rows, 0.4, 1)
    pilot, proof = (replace(part, texts=[""] * len(part.texts)) for part in held[1:])
    held = held._replace(pilot=pilot, proof=proof)  # the student can say nothing of these, so all is asked
    for name, wrong, expected in (("right", 0.0, True), ("wrong", 0.4, False)):
        path = write_answers(tmp_path / f"{name}.csv", rows, wrong=wrong)
        trial = answered(held, path, CATALOGUE.ids)
        _, manifest = distilled(fitted, held.learn, trial, tmp_path / name)
        assert {one.certified for one in manifest.attributes} == {expected}
        assert manifest.certificate is not None
        assert f"{name}.csv, given by flash, prompt vibe 2" in manifest.certificate.answers
        assert manifest.certificate.annotator == ANNOTATOR


def test_texts_that_the_llm_was_not_asked_about_count_for_nothing(fitted: Nano, rows: Rows, tmp_path: Path):
    held = hold_out(rows, 0.4, 1)
    path = write_answers(tmp_path / "half.csv", rows, asked=0.5)
    _, manifest = distilled(fitted, held.learn, answered(held, path, CATALOGUE.ids), tmp_path / "out")
    assert manifest.certificate is not None
    with path.open(encoding="utf-8") as file:
        asked = {(row["video"], row["attribute"]) for row in csv.DictReader(file)}
    for a, name in enumerate(CATALOGUE.ids):
        known = [i for i, video in enumerate(held.proof.videos) if (video, name) in asked]
        assert manifest.certificate.attributes[name].positives == int(held.proof.q[known, a].sum())


def test_a_file_with_answers_of_two_llms_is_refused(rows: Rows, tmp_path: Path):
    path = write_answers(tmp_path / "a.csv", rows)
    path.write_text(path.read_text().replace("flash", "pro", 500))
    with pytest.raises(ConfigurationError, match="mixes annotators"):
        answered(hold_out(rows, 0.4, 1), path, CATALOGUE.ids)


def test_answers_about_texts_without_ids_are_refused(rows: Rows, tmp_path: Path):
    held = hold_out(Rows(rows.texts, rows.q, rows.weight, rows.golden), 0.4, 1)
    with pytest.raises(ConfigurationError, match="these texts have no ids"):
        answered(held, write_answers(tmp_path / "a.csv", rows), CATALOGUE.ids)
