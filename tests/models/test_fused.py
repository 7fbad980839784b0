"""A student that reads, sees and hears: loaded as a worker does, asked with any sense missing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pytest
from pyarrow import parquet

from models.bundle import load_bundle
from models.features import load_tokenizer
from models.media.sound import sound_vector
from models.media_rows import METADATA, read_media
from models.seen import NOTHING, Seen
from models.student import Student
from schemas.errors import ConfigurationError
from tests.fakes.fused import HEARD, SEEN, colour_encoder, fused_bundle, seen_as, tone
from tests.fakes.media import GREEN, GREY, RED


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fused")
    return fused_bundle(folder, colour_encoder(folder / "encoder"), sound=True)


@pytest.fixture(scope="module")
def student(bundle: Path) -> Iterator[Student]:
    made = Student.load(bundle)
    yield made
    made.close()


def frames(*colours: tuple[int, int, int]) -> Seen:
    return Seen(np.stack([seen_as(one) for one in colours]).astype(np.float16))


async def likeliest(student: Student, text: str, seen: Seen = NOTHING) -> str:
    scores = await student.score_seen([text], [seen])
    return student.ids[int(scores.probability[0].argmax())]


async def test_each_sense_alone_tells_what_it_can(student: Student) -> None:
    assert await likeliest(student, "the day tellsdeadpan was") == "deadpan"
    for attribute, colour in SEEN.items():
        assert await likeliest(student, "", frames(colour, colour)) == attribute
    assert await likeliest(student, "", Seen(sound=sound_vector(tone()))) == HEARD


async def test_senses_together_agree_or_weigh_each_other(student: Student) -> None:
    assert await likeliest(student, "tellseerie", frames(RED)) == "eerie"
    scores = await student.score_seen(["tellseerie"] * 2, [frames(GREEN), frames(GREY)])
    funny = student.ids.index("funny")
    assert scores.probability[0, funny] > 2 * scores.probability[1, funny]


async def test_what_is_missing_adds_exactly_nothing(student: Student, bundle: Path) -> None:
    texts = ["the day tellseerie was", "", "we"]
    plain, masked = await student.score(texts), await student.score_seen(texts, [NOTHING] * 3)
    assert np.array_equal(plain.probability, masked.probability)
    mixed = await student.score_seen(texts, [NOTHING, frames(RED), NOTHING])
    assert mixed.probability[[0, 2]] == pytest.approx(plain.probability[[0, 2]], abs=1e-6)
    assert abs(mixed.probability[1] - plain.probability[1]).max() > 0.1

    loaded = load_bundle(bundle)
    session = ort.InferenceSession(loaded.model, providers=["CPUExecutionProvider"])
    ids = np.array([load_tokenizer(loaded.tokenizer, 128).encode(texts[0]).ids])
    junk = np.random.default_rng(1).normal(0, 9, (1, 5, 3)).astype(np.float32)
    fed = session.run(
        ["probability"],
        {
            "ids": ids, "mask": np.ones_like(ids), "frames": junk, "frames_mask": np.zeros((1, 5), np.float32),
            "sound": junk[:, 0].repeat(22)[None, :64], "sound_mask": np.zeros((1, 1), np.float32),
        },
    )[0]  # fmt: skip
    assert fed[0] == pytest.approx(plain.probability[0], abs=1e-6)


async def test_the_embedding_is_of_all_that_was_seen_and_has_length_one(student: Student) -> None:
    scores = await student.score_seen(["the day"] * 3, [NOTHING, frames(RED, RED), frames(RED)])
    vectors = scores.embedding.astype(np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-2)
    assert vectors[1] @ vectors[0] < 0.9
    assert vectors[1] @ vectors[2] == pytest.approx(1, abs=1e-2)


def test_the_manifest_names_the_inputs_and_the_encoder(bundle: Path) -> None:
    manifest = load_bundle(bundle).manifest
    assert manifest.frames is not None
    assert manifest.sound is not None
    assert (manifest.frames.encoder, manifest.frames.dim, manifest.frames.count) == ("colours", 3, 4)
    assert len(manifest.frames.sha256) == 64
    assert (manifest.sound.features, manifest.sound.dim) == ("log-mel-64", 64)
    assert manifest.metrics.macro_f1 > 0.8


def media_file(path: Path, **columns: list[object]) -> Path:
    made = b'{"frames":{"encoder":"e","sha256":"s","dim":3,"count":2},"sound":null}'
    schema = pa.schema(
        [("video_id", pa.string()), ("frames", pa.list_(pa.list_(pa.float16()))), ("sound", pa.list_(pa.float32()))],
        metadata={METADATA: made},
    )
    parquet.write_table(pa.table(columns, schema), path)
    return path


def test_media_are_joined_by_video_and_what_is_not_there_is_missing(tmp_path: Path) -> None:
    path = media_file(
        tmp_path / "m.parquet",
        video_id=["b", "a", "other"],
        frames=[[[1, 2, 3], [3, 4, 5]], None, [[9, 9, 9]]],
        sound=[None, None, None],
    )
    media = read_media(path, ("a", "b", "c"))
    assert media.has_frames.tolist() == [False, True, False]
    assert media.frames[1].tolist() == [2, 3, 4]
    assert [one.frames is None for one in media[np.array([1, 2])].seen()] == [False, True]


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([[[1, 2]]], "not of 3 finite numbers"),
        ([[[1, 2, float("nan")]]], "not of 3 finite numbers"),
        ([None], "nothing of the"),
    ],
)
def test_media_that_do_not_fit_are_refused(tmp_path: Path, frames: list[object], says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        read_media(media_file(tmp_path / "m.parquet", video_id=["a"], frames=frames, sound=[None]), ("a",))
    assert says in str(error.value)
    with pytest.raises(ConfigurationError, match="vibestream media embed"):
        read_media(tmp_path / "none.parquet", ("a",))
