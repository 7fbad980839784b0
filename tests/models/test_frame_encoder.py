"""The frame encoder with real weights: it sees what is in a picture, and its graph does what a float reference does."""

import asyncio
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from prometheus_client import REGISTRY

from models.media import mobilenet
from models.media.decode import DecodeLimits, DecodePool, Plan
from models.media.encoder_build import Pixels, build_encoder, wrap
from models.media.frame_encoder import MODEL, FrameEncoder
from models.media.torch_weights import read_state_dict
from schemas.errors import BundleError, ConfigurationError
from tests.fakes.fused import image_model
from tests.fakes.mobilenet import PIXELS, mobilenet_encoder, picture, show
from topology.cli import main
from topology.commands.frame_encoder import packaged_weights

# Numbers among ImageNet's thousand classes.
CATS = {281, 282, 285}  # tabby, tiger cat, Egyptian cat
CUPS = {504, 967, 968}  # coffee mug, espresso, cup
ROCKETS = {657, 744}  # missile, projectile


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrameEncoder]:
    made = FrameEncoder.load(mobilenet_encoder(tmp_path_factory.mktemp("encoder") / "features"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrameEncoder]:
    made = FrameEncoder.load(mobilenet_encoder(tmp_path_factory.mktemp("encoder") / "logits", "logits"))
    yield made
    made.close()


async def test_clear_pictures_are_seen_for_what_they_are_through_a_real_video(
    classifier: FrameEncoder, tmp_path: Path
) -> None:
    path = show(tmp_path / "a.mp4", [picture("chelsea.png"), picture("coffee.png"), picture("rocket.jpg")])
    pool = DecodePool(1, DecodeLimits(seconds=60))
    decoded = await pool.decode(path, Plan(frames=3, size=PIXELS.size, resize=PIXELS.resize))
    await pool.close()
    (logits,) = await classifier.encode([decoded.frames])
    seen = [int(one) for one in logits.argmax(axis=1)]
    assert [seen[0] in CATS, seen[1] in CUPS, seen[2] in ROCKETS] == [True] * 3, seen


def test_normalisation_in_the_graph_agrees_with_a_float_reference() -> None:
    model = mobilenet.build_mobilenet(read_state_dict(packaged_weights()))
    frames = np.random.default_rng(3).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    ours = run(wrap(model, PIXELS, "features"), "vector", frames=frames)
    image = ((frames.astype(np.float64) / 255 - mobilenet.MEAN) / mobilenet.STD).transpose(0, 3, 1, 2)
    reference = run(model, "features", image=image.astype(np.float32))
    error = np.linalg.norm(ours - reference, axis=1) / np.linalg.norm(reference, axis=1)
    assert error.max() <= 1e-3, error


def run(model: onnx.ModelProto, output: str, **feeds: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], feeds)[0])


async def test_frames_of_many_videos_are_encoded_together_and_those_seen_before_not_again(
    features: FrameEncoder,
) -> None:
    frames = np.random.default_rng(4).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)

    def encoded() -> float:
        return REGISTRY.get_sample_value("vibestream_media_frames_total", {"source": "encoded"}) or 0.0

    before = encoded()
    first, none, second = await features.encode([frames[:3], frames[:0], frames[2:]])
    assert (first.shape, none.shape, second.shape) == ((3, 1280), (0, 1280), (3, 1280))
    assert encoded() - before == 5
    assert np.array_equal(first[2], second[0])
    (again,) = await features.encode([frames])
    assert encoded() - before == 5
    assert np.array_equal(again, np.concatenate([first, second[1:]]))


async def test_a_damaged_encoder_is_refused(tmp_path: Path) -> None:
    path = tiny_encoder(tmp_path / "tiny")
    content = (path / MODEL).read_bytes()
    (path / MODEL).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match="expected sha256"):
        FrameEncoder.load(path)
    with pytest.raises(BundleError, match="frame-encoder build"):
        FrameEncoder.load(tmp_path)


def tiny_encoder(out: Path) -> Path:
    pixels = Pixels(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return build_encoder(image_model(), pixels, "image_embeds", "tiny", out, "test")


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_an_encoder_by_path_goes_in_without_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str, kind: int
) -> None:
    onnx.save(image_model(layout=layout, kind=kind), tmp_path / "vision.onnx")
    made = tmp_path / "made"
    with pytest.raises(SystemExit) as ended:
        main([
            "frame-encoder", "build", str(tmp_path / "vision.onnx"), "--size", "32", "--layout", layout,
            "--mean", ".5", ".4", ".3", "--std", ".25", ".5", "1", "--output", "image_embeds", "--out", str(made),
        ])  # fmt: skip
    assert ended.value.code == 0
    assert "vision, 32 x 32 pixels to 4 numbers" in capsys.readouterr().out
    encoder = FrameEncoder.load(made)
    frame = np.full((1, 32, 32, 3), (255, 0, 51), np.uint8)
    (vector,) = asyncio.run(encoder.encode([frame]))
    encoder.close()
    normal = np.array([(1 - 0.5) / 0.25, (0 - 0.4) / 0.5, (0.2 - 0.3) / 1])
    assert vector[0] == pytest.approx(normal @ np.arange(12).reshape(3, 4), rel=1e-2)


@pytest.mark.parametrize(
    ("model", "output", "says"),
    [
        (image_model(), None, "name one of these with --output"),
        (image_model(), "pooler_output", "it gives image_embeds, means"),
        (image_model(layout="nhwc"), "image_embeds", "does not take a batch of nchw squares"),
        (image_model(kind=TensorProto.DOUBLE), "image_embeds", "expected one image of floats"),
    ],
)
def test_what_is_no_image_encoder_is_refused_with_a_remedy(
    tmp_path: Path, model: onnx.ModelProto, output: str | None, says: str
) -> None:
    pixels = Pixels(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    with pytest.raises(ConfigurationError) as error:
        build_encoder(model, pixels, output, "x", tmp_path / "x", "test")
    assert says in str(error.value)
    assert not (tmp_path / "x").exists()


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('it ran')",))


def test_a_file_of_weights_can_not_run_anything(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ConfigurationError, match="has no place in a file of weights"):
        read_state_dict(path)
    path.write_bytes(b"no pickle at all")
    with pytest.raises(ConfigurationError, match="can be read without torch"):
        read_state_dict(path)
