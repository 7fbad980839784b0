"""Trains on a tiny generated corpus in the format of GoEmotions."""

import gzip
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.bundle import Manifest, load_bundle
from models.goemotions import LabelledTexts, read_goemotions
from models.nano import train
from models.student import Student
from schemas.attributes import Catalogue, load_catalogue
from schemas.errors import ConfigurationError

NAMES = ["amusement", "love", "caring", "fear", "nervousness", "neutral"]
_SHIPPED = load_catalogue()
CATALOGUE = Catalogue(tuple(_SHIPPED[name] for name in ("funny", "heartwarming", "eerie", "deadpan")))
_WORDS = {
    "0": ["lol", "hilarious", "joke"],
    "1": ["love", "hug", "darling"],
    "2": ["care", "support"],
    "3": ["scary", "ghost", "terrified"],
    "5": ["bus", "table", "report"],
}
_FILLER = ["the", "a", "today", "we", "it", "was", "and", "this"]


def write_split(path: Path, rows: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    lines: list[str] = []
    for i in range(rows):
        label = str(rng.choice(list(_WORDS)))
        words = [*rng.choice(_FILLER, 5), str(rng.choice(_WORDS[label])), "[NAME]"]
        lines.append(f"{' '.join(rng.permutation(words))}\t{label}\tid{i}\n")
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(lines)
    return path


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledTexts, LabelledTexts]:
    folder = tmp_path_factory.mktemp("corpus")
    labelled = write_split(folder / "train.tsv.gz", 600, seed=1)
    dev = write_split(folder / "dev.tsv.gz", 150, seed=2)
    return read_goemotions(labelled, NAMES, CATALOGUE), read_goemotions(dev, NAMES, CATALOGUE)


@pytest.fixture(scope="module")
def trained(splits: tuple[LabelledTexts, LabelledTexts], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(*splits, CATALOGUE, tmp_path_factory.mktemp("out"), data="generated", licence="none", version=7)


def test_labels_of_one_attribute_are_joined_and_masks_become_words(splits: tuple[LabelledTexts, LabelledTexts]):
    labelled, _ = splits
    heartwarming = labelled.labels[:, CATALOGUE.ids.index("heartwarming")]
    told = [any(word in text.split() for word in (*_WORDS["1"], *_WORDS["2"])) for text in labelled.texts]
    assert heartwarming.tolist() == told
    assert all("[NAME]" not in text and "someone" in text for text in labelled.texts)


async def test_a_trained_bundle_loads_and_tells_the_classes_apart(trained: Path):
    student = Student.load(trained, CATALOGUE)
    try:
        scores = await student.score(
            ["lol it was hilarious", "a hug and love today", "the ghost was scary", "bus report"]
        )
    finally:
        student.close()
    assert scores.probability.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert (student.version.name, student.version.version, student.dim) == ("nano", 7, 128)


def test_the_manifest_tells_source_and_measurements(trained: Path):
    manifest = load_bundle(trained).manifest
    assert trained.parts[-2:] == ("nano", "7")
    assert (manifest.training.data, manifest.training.licence) == ("generated", "none")
    assert (manifest.training.rows, manifest.training.heldout_rows) == (510, 90)
    assert manifest.metrics.macro_f1 > 0.9
    assert set(manifest.metrics.attributes) == set(CATALOGUE.ids)
    assert manifest.metrics.uncertain_any < 0.2


def test_training_twice_gives_the_same_bundle(
    trained: Path, splits: tuple[LabelledTexts, LabelledTexts], tmp_path: Path
):
    again = train(*splits, CATALOGUE, tmp_path, data="generated", licence="none", version=7)
    assert load_bundle(again).manifest == load_bundle(trained).manifest


def test_an_attribute_too_rare_to_learn_does_not_break_training(
    splits: tuple[LabelledTexts, LabelledTexts], tmp_path: Path
):
    labelled, dev = (LabelledTexts(part.texts, part.labels & ~np.eye(4, dtype=bool)[0]) for part in splits)
    path = train(labelled, dev, CATALOGUE, tmp_path, data="generated", licence="none")
    manifest = msgspec.json.decode((path / "manifest.json").read_bytes(), type=Manifest)
    assert manifest.metrics.attributes["funny"].accept == 0


@pytest.mark.parametrize("row", ["no tabs", "text\t99\tid", "text\t\tid", "text\t-1\tid"])
def test_a_malformed_row_is_refused_with_its_line(tmp_path: Path, row: str):
    path = tmp_path / "train.tsv"
    path.write_text(f"fine\t0\tid\n{row}\n")
    with pytest.raises(ConfigurationError, match="train.tsv:2"):
        read_goemotions(path, NAMES, CATALOGUE)


def test_an_attribute_without_a_known_label_is_refused(tmp_path: Path):
    path = tmp_path / "train.tsv"
    path.write_text("fine\t0\tid\n")
    with pytest.raises(ConfigurationError, match="uplifting"):
        read_goemotions(path, NAMES, _SHIPPED)
