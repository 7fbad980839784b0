"""Trains on a tiny generated corpus in the format of GoEmotions."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from models.distil_loss import Targets
from models.distil_rows import Rows, rows_of
from models.goemotions import LABELS, read_goemotions
from models.words import count_words, fit_words
from schemas.attributes import Catalogue, load_catalogue
from schemas.errors import ConfigurationError
from tests.fakes.corpus import CATALOGUE, WORDS, write_split

_SHIPPED = load_catalogue()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    path = write_split(tmp_path_factory.mktemp("corpus") / "train.tsv.gz", 300, seed=1)
    return rows_of(read_goemotions(path, LABELS, CATALOGUE))


def test_labels_of_one_attribute_are_joined_and_masks_become_words(rows: Rows):
    heartwarming = rows.q[:, CATALOGUE.ids.index("heartwarming")] == 1
    told = [any(word in text.split() for word in (*WORDS["love"], *WORDS["caring"])) for text in rows.texts]
    assert heartwarming.tolist() == told
    assert all("[NAME]" not in text and "someone" in text for text in rows.texts)


def words_of(q: list[float], weight: list[float]) -> float:
    """Fit a bag of two words, the first in every other text, and return how much more the first one says."""
    x = count_words([[i % 2] for i in range(len(q))], 2)
    column = np.array(q, np.float32)[:, None]
    rows = Rows([""] * len(q), column, np.array(weight, np.float32)[:, None], np.ones_like(column, np.bool_))
    weights = fit_words(x, Targets.of(rows), lambda: None).weights
    return float(weights[0, 0] - weights[1, 0])


def test_a_label_that_is_not_known_teaches_nothing():
    known, wrong = [1.0, 0.0] * 20, [0.0, 1.0] * 40
    alone = words_of(known, [1.0] * 40)
    assert words_of(known + wrong, [1.0] * 40 + [0.0] * 80) == pytest.approx(alone, rel=0.02)
    assert words_of(known + wrong, [1.0] * 120) < 0 < alone


def test_a_text_of_weight_two_teaches_like_two_texts():
    labels = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0] * 5
    assert words_of(labels, [2.0] * 30) == pytest.approx(words_of(labels + labels, [1.0] * 60), rel=0.02)


def test_an_unsure_soft_label_teaches_less_than_a_sure_one():
    assert 0 < words_of([0.6, 0.4] * 30, [1.0] * 60) < words_of([0.95, 0.05] * 30, [1.0] * 60)


@pytest.mark.parametrize("row", ["no tabs", "text\t99\tid", "text\t\tid", "text\t-1\tid"])
def test_a_malformed_row_is_refused_with_its_line(tmp_path: Path, row: str):
    path = tmp_path / "train.tsv"
    path.write_text(f"fine\t0\tid\n{row}\n")
    with pytest.raises(ConfigurationError, match="train.tsv:2"):
        read_goemotions(path, LABELS, CATALOGUE)


def test_an_attribute_without_a_known_label_is_refused(tmp_path: Path):
    path = tmp_path / "train.tsv.gz"
    path.write_bytes(gzip.compress(b"fine\t0\tid\n"))
    bare = Catalogue((_SHIPPED["funny"], _SHIPPED["uplifting"]))
    with pytest.raises(ConfigurationError, match="uplifting"):
        read_goemotions(path, [name for name in LABELS if name != "relief"], bare)
