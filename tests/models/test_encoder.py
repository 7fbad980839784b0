"""Distils the encoder tier on a small encoder of random weights."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from models.bundle import load_bundle
from models.distil import Title, distil
from models.distil_formats import SOURCES
from models.distil_rows import Rows, rows_of
from models.encoder import read_encoder
from models.encoder_heads import encoder_steps, fit_encoder
from models.goemotions import LABELS, read_goemotions
from models.student import Student
from schemas.errors import ConfigurationError
from tests.fakes.corpus import CATALOGUE, WORDS, write_split
from tests.fakes.encoder import write_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = sorted(word for words in WORDS.values() for word in words)
    return write_encoder(tmp_path_factory.mktemp("encoder"), [*words, "the", "today", "someone", "was"])


@pytest.fixture(scope="module")
def distilled(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    labelled = rows_of(read_goemotions(write_split(folder / "train.tsv.gz", 500, seed=1), LABELS, CATALOGUE))
    laughing = np.flatnonzero(labelled.q[:, 0])
    texts = [f"{text} 😂" if i in set(laughing[:60]) else text for i, text in enumerate(labelled.texts)]
    rows = Rows(texts, labelled.q, labelled.weight, labelled.golden)
    steps: list[int] = []
    fitted = fit_encoder(rows, encoder, encoder.with_name("tokenizer.json"), 1, lambda: steps.append(1))
    assert len(steps) == encoder_steps(500, 4)
    return distil(fitted, rows, None, CATALOGUE, Title("encoder", 1, SOURCES["goemotions"], 1), folder)


async def test_a_student_on_an_encoder_is_served_like_any_other(distilled: Path):
    student = Student.load(distilled, CATALOGUE)
    try:
        scores = await student.score(["today the joke was hilarious", "the hug", "ghost terrified", "bus report", ""])
        alone = await student.score(["the hug"])
    finally:
        student.close()
    assert scores.probability[:4].argmax(axis=1).tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(alone.probability[0], scores.probability[1], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(scores.embedding.astype(np.float32), axis=1), 1, atol=2e-3)


async def test_an_emoji_that_the_encoder_does_not_know_is_a_word(distilled: Path):
    student = Student.load(distilled)
    try:
        scores = await student.score(["the 😂", "the 👽"])
    finally:
        student.close()
    laughing, unknown = scores.probability[:, 0]
    assert laughing > unknown + 0.2


def test_the_bundle_says_what_it_is_worth_on_texts_it_had_not_seen(distilled: Path):
    manifest = load_bundle(distilled).manifest
    assert (manifest.metrics.on, manifest.metrics.rows, manifest.opset) == ("heldout", 500, 17)
    assert manifest.metrics.macro_f1 > 0.9


def test_states_are_found_from_the_embeddings_to_the_output(encoder: Path):
    assert list(read_encoder(encoder).states) == ["embedded", "last_hidden_state"]


def test_a_file_that_is_no_encoder_is_refused(tmp_path: Path, encoder: Path, distilled: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ConfigurationError, match=r"model\.onnx"):
        read_encoder(path)
    with pytest.raises(ConfigurationError, match="takes ids, mask"):
        read_encoder(distilled / "model.onnx")
    model = onnx.load(encoder)
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("self.query", "renamed")
    for node in model.graph.node:
        node.input[:] = [name.replace("self.query", "renamed") for name in node.input]
    onnx.save(model, path)
    with pytest.raises(ConfigurationError, match="no weights named"):
        read_encoder(path)


def test_another_encoders_tokenizer_is_refused(encoder: Path, tmp_path: Path):
    other = write_encoder(tmp_path, [f"word{i}" for i in range(200)]).with_name("tokenizer.json")
    rows = Rows(["a"], np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32), np.ones((1, 1), np.bool_))
    with pytest.raises(ConfigurationError, match="204 tokens"):
        fit_encoder(rows, encoder, other, 1, lambda: None)
    with pytest.raises(ConfigurationError, match="--tokenizer"):
        fit_encoder(rows, encoder, tmp_path / "none.json", 1, lambda: None)
