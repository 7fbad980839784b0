import asyncio
import json
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from models.bundle import MANIFEST, MODEL, default_bundle
from models.student import Student
from schemas.attributes import Catalogue, load_catalogue
from schemas.errors import BundleError

CATALOGUE = load_catalogue()
NEUTRAL = "The bus stops here every twenty minutes"


@pytest.fixture(scope="module")
def student() -> Iterator[Student]:
    student = Student.load(default_bundle(), CATALOGUE)
    yield student
    student.close()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(default_bundle(), tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("text", "attribute"),
    [
        ("I love you so much", "heartwarming"),
        ("lol this is hilarious 😂", "funny"),
        ("Thank you so much for your help", "grateful"),
        ("I am terrified, so scared", "eerie"),
        ("you disgusting idiots, I hate you", "hostile"),
        ("why does this happen? does anyone know?", "curious"),
    ],
)
async def test_a_text_that_shows_an_attribute_scores_above_a_neutral_one(student: Student, text: str, attribute: str):
    scores = await student.score([text, NEUTRAL])
    shown, neutral = scores.probability[:, student.ids.index(attribute)]
    assert shown > 0.4
    assert neutral < 0.2


async def test_a_text_gets_the_same_scores_in_any_batch(student: Student):
    texts = [f"{'so ' * (i * 7 % 60)}happy number {i}" for i in range(100)] + ["", "😂"]
    together = await student.score(texts)
    backwards = await student.score(texts[::-1])
    alone = await student.score([texts[17]])
    np.testing.assert_allclose(together.probability, backwards.probability[::-1], atol=1e-5)
    np.testing.assert_allclose(together.embedding, backwards.embedding[::-1], atol=1e-3)
    np.testing.assert_allclose(together.probability[17], alone.probability[0], atol=1e-5)


async def test_embeddings_are_float16_unit_vectors_and_the_same_vibe_is_nearer(student: Student):
    scores = await student.score(
        ["I love my sweet grandma", "we love this little puppy", "you idiots make me sick", ""]
    )
    vectors = scores.embedding.astype(np.float32)
    assert scores.embedding.dtype == np.float16
    assert vectors.shape == (4, student.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


async def test_no_texts_give_no_rows(student: Student):
    scores = await student.score([])
    assert scores.probability.shape == (0, len(CATALOGUE.ids))
    assert scores.embedding.shape == (0, student.dim)


async def test_calls_at_the_same_time_keep_their_own_rows(student: Student):
    texts = ["I love you", NEUTRAL, "thank you"] * 5
    alone = [(await student.score([text])).probability[0] for text in texts]
    together = await asyncio.gather(*(student.score([text]) for text in texts))
    np.testing.assert_allclose([scores.probability[0] for scores in together], alone, atol=1e-6)


async def test_columns_follow_the_catalogue_and_not_the_bundle(student: Student):
    backwards = Student.load(default_bundle(), Catalogue(CATALOGUE.attributes[::-1]))
    try:
        expected = await student.score(["I love you so much"])
        got = await backwards.score(["I love you so much"])
    finally:
        backwards.close()
    np.testing.assert_allclose(got.probability[:, ::-1], expected.probability, atol=1e-6)
    assert list(backwards.bands) == list(backwards.ids)


def test_an_attribute_of_another_version_must_be_distilled_again():
    first = CATALOGUE.attributes[0]
    newer = Catalogue((msgspec.structs.replace(first, version=2), *CATALOGUE.attributes[1:]))
    with pytest.raises(BundleError, match=rf"{first.id} version 2 \(bundle: 1\).*distil again"):
        Student.load(default_bundle(), newer)


def test_an_attribute_that_the_bundle_does_not_know_must_be_distilled():
    unknown = msgspec.structs.replace(CATALOGUE.attributes[0], id="cosy")
    with pytest.raises(BundleError, match=r"cosy version 1 \(bundle: none\)"):
        Student.load(default_bundle(), Catalogue((unknown,)))


def test_a_model_that_answers_otherwise_than_when_it_was_made_is_refused(copy: Path):
    replace_weights(copy, "bias", 0.5)
    with pytest.raises(BundleError, match="golden texts differ"):
        Student.load(copy, CATALOGUE)


def test_a_model_that_gives_nan_is_refused(copy: Path):
    replace_weights(copy, "bias", float("nan"))
    with pytest.raises(BundleError, match="NaN"):
        Student.load(copy, CATALOGUE)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA"
)
def test_cuda_without_cuda_is_refused_and_never_becomes_cpu():
    with pytest.raises(BundleError, match="cuda"):
        Student.load(default_bundle(), CATALOGUE, "cuda")


def replace_weights(bundle: Path, name: str, value: float) -> None:
    """Fill one weight of the model and sign the bundle anew."""
    model = onnx.load(bundle / MODEL)
    (weight,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    weight.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(weight), value), name))
    onnx.save(model, bundle / MODEL)
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    manifest["files"][MODEL] = sha256((bundle / MODEL).read_bytes()).hexdigest()
    (bundle / MANIFEST).write_text(json.dumps(manifest))
