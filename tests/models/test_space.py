"""A student on the trunk of another: other heads, the same vectors, and nothing proven on what the trunk learned."""

from pathlib import Path

import numpy as np
import pytest

from models.band_path import Rates
from models.bundle import LEARNED, load_manifest
from models.distil import Title, distil
from models.distil_bands import hold_out, stated
from models.distil_formats import SOURCES
from models.distil_rows import Rows, rows_of
from models.encoder_heads import fit_encoder
from models.goemotions import LABELS, read_goemotions
from models.learned import among, fingerprints, packed, unpacked
from models.nano import fit_nano
from models.space import fit_space, read_trunk, space_steps
from models.student import Student
from models.successor import check_space
from schemas.attributes import Catalogue, load_catalogue
from schemas.errors import BundleError, ConfigurationError
from tests.fakes.corpus import CATALOGUE, WORDS, write_split
from tests.fakes.encoder import write_encoder

# Other attributes than the trunk was distilled for, and fewer.
OTHERS = Catalogue(tuple(load_catalogue()[name] for name in ("eerie", "deadpan", "heartwarming")))
TEXTS = ["the ghost was scary", "bus report", "the hug", "today"]


def rows_for(catalogue: Catalogue, folder: Path, count: int, seed: int) -> Rows:
    return rows_of(read_goemotions(write_split(folder / f"{seed}.tsv.gz", count, seed), LABELS, catalogue))


@pytest.fixture(scope="module", params=["nano", "encoder"])
def first(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    rows = rows_for(CATALOGUE, folder, 300, seed=1)
    if request.param == "nano":
        fitted = fit_nano(rows, 1, lambda: None)
    else:
        words = sorted(word for words in WORDS.values() for word in words)
        encoder = write_encoder(folder, [*words, "the", "today", "someone", "was"])
        fitted = fit_encoder(rows, encoder, encoder.with_name("tokenizer.json"), 1, lambda: None)
    return distil(fitted, rows, None, CATALOGUE, Title("vibe", 1, SOURCES["goemotions"], 1), folder)


@pytest.fixture(scope="module")
def second(first: Path) -> Path:
    rows = rows_for(OTHERS, first.parent, 600, seed=2)
    steps: list[int] = []
    trunk = read_trunk(first)
    fitted = fit_space(rows, trunk, 1, lambda: steps.append(1))
    assert len(steps) == space_steps(trunk, 600, 3)
    return distil(fitted, rows, None, OTHERS, Title("vibe", 2, SOURCES["goemotions"], 1), first.parent.parent)


async def test_other_heads_leave_every_vector_where_it_is(first: Path, second: Path):
    before, after = Student.load(first), Student.load(second)
    try:
        was, now = await before.score(TEXTS), await after.score(TEXTS)
        await check_space(after, before, load_manifest(second))
    finally:
        before.close()
        after.close()
    np.testing.assert_array_equal(was.embedding, now.embedding)
    assert now.probability.shape == (4, 3)
    assert now.probability[:3].argmax(axis=1).tolist() == [0, 1, 2]


def test_the_bundle_names_its_trunk_and_what_it_has_learned(first: Path, second: Path):
    was, now = load_manifest(first), load_manifest(second)
    assert (was.training.space, now.training.space) == (None, "vibe 1")
    assert now.metrics.macro_f1 > 0.9
    assert (first / LEARNED).read_bytes() == (second / LEARNED).read_bytes()
    assert "trunk of vibe 1" in (second / "README.md").read_text()
    read_trunk(second)  # and on it goes


def test_texts_that_the_trunk_has_learned_prove_nothing(first: Path, tmp_path: Path):
    old, new = rows_for(CATALOGUE, tmp_path, 300, seed=1), rows_for(CATALOGUE, tmp_path, 120, seed=3)
    both = Rows(
        [*old.texts, *new.texts],
        *(np.concatenate(parts) for parts in ((old.q, new.q), (old.weight, new.weight), (old.golden, new.golden))),
    )
    trunk = read_trunk(first)
    fresh = int((~among(new.texts, trunk.learned)).sum())
    held = hold_out(both, 0.5, 1, trunk.learned)
    assert not among([*held.pilot.texts, *held.proof.texts], trunk.learned).any()
    assert len(held.proof.texts) == fresh // 2
    assert len(held.pilot.texts) == (fresh - fresh // 2) // 2
    assert sum(len(part.texts) for part in held) == 420
    with pytest.raises(ConfigurationError, match="0 of these are not learned by the trunk"):
        hold_out(old, 0.5, 1, trunk.learned)
    path = distil(
        fit_space(held.learn, trunk, 1, lambda: None), held.learn, None, CATALOGUE,
        Title("vibe", 3, SOURCES["goemotions"], 1), tmp_path, stated(held, Rates(1.0, 1.0)),
    )  # fmt: skip
    certificate = load_manifest(path).certificate
    assert certificate is not None
    assert certificate.texts == len(held.proof.texts)


def test_nothing_is_calibrated_by_a_hidden_layer_that_knows_the_labels(first: Path, tmp_path: Path):
    trunk = read_trunk(first)
    dim = trunk.manifest.dim
    same = fit_space(rows_for(CATALOGUE, tmp_path, 300, seed=1), trunk, 1, lambda: None)
    assert not same.heads.weights[:dim].any()
    assert len(same.heldout) == 300
    others = rows_for(CATALOGUE, tmp_path, 600, seed=4)
    found = fit_space(others, trunk, 1, lambda: None)
    assert found.heads.weights[:dim].any()
    assert not among([others.texts[i] for i in found.heldout], trunk.learned).any()


def test_a_bundle_that_does_not_tell_what_it_learned_is_no_trunk(first: Path, tmp_path: Path):
    (first / LEARNED).rename(tmp_path / LEARNED)
    try:
        with pytest.raises(BundleError, match=r"learned\.bin"):
            read_trunk(first)
    finally:
        (tmp_path / LEARNED).rename(first / LEARNED)


def test_fingerprints_tell_texts_apart_and_survive_the_file():
    texts = [f"text {i}" for i in range(1000)]
    prints = unpacked(packed(fingerprints([*texts, *texts])))
    assert len(prints) == 1000
    assert among(texts, prints).all()
    assert not among([text.upper() for text in texts], prints).any()
