"""A frame encoder that sees colours, and a student that was distilled to make something of them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.bundle import FramesInput, SoundInput
from models.distil import Title, distil
from models.distil_formats import SOURCES
from models.distil_rows import Rows
from models.fused import fit_fused
from models.media.encoder_build import Pixels, build_encoder
from models.media.frame_encoder import load_encoder_manifest
from models.media.sound import DIM, sound_vector
from models.media_rows import EmbeddedWith, MediaRows
from schemas.attributes import Catalogue, load_catalogue
from tests.fakes.media import BLUE, GREEN, RED

PIXELS = Pixels(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
SEEN = {"eerie": RED, "funny": GREEN, "heartwarming": BLUE}
"""What a colour means to the student; to it, videos of other attributes have random ones."""
TONE_HZ = 1_000.0
HEARD = "hyped"
"""What a tone means to it."""


def image_model(*, dim: int = 4, layout: str = "nchw", kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Mean colour times weights, shaped as an encoder exported from elsewhere might be."""
    shape = ["n", 3, 32, 32] if layout == "nchw" else ["n", 32, 32, 3]
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weight"], ["image_embeds"]),
    ]
    weight = np.arange(3 * dim).reshape(3, dim).astype(np.float16 if kind == TensorProto.FLOAT16 else np.float32)
    graph = helper.make_graph(
        nodes, "vision", [helper.make_tensor_value_info("pixel_values", kind, shape)],
        [helper.make_tensor_value_info("image_embeds", kind, ["n", dim]),
         helper.make_tensor_value_info("means", kind, ["n", 3])],
        [numpy_helper.from_array(np.array([2, 3] if layout == "nchw" else [1, 2]), "axes"),
         numpy_helper.from_array(weight, "weight")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def colour_encoder(out: Path) -> Path:
    return build_encoder(image_model(), PIXELS, "means", "colours", out, "test")


def seen_as(colour: tuple[int, int, int]) -> np.ndarray:
    return ((np.array(colour) / 255 - 0.5) / 0.25).astype(np.float32)


def tone(seconds: float = 1.0) -> np.ndarray:
    return (8_000 * np.sin(2 * np.pi * TONE_HZ * np.arange(round(16_000 * seconds)) / 16_000)).astype(np.int16)


def rows(encoder: Path, catalogue: Catalogue, count: int, seed: int, *, sound: bool) -> Rows:
    """Videos with one attribute each: told by a word, by a colour, by a tone, or by several of them."""
    rng = np.random.default_rng(seed)
    manifest = load_encoder_manifest(encoder)
    ids = catalogue.ids
    label = np.arange(count) % len(ids)
    texts: list[str] = []
    frames, has_frames = np.zeros((count, 3), np.float32), rng.random(count) < 0.6
    noise = np.zeros((count, DIM if sound else 0), np.float32)
    has_sound = (rng.random(count) < 0.6) & sound
    heard = sound_vector(tone())
    assert heard is not None
    for i, a in enumerate(label):
        by_media = (ids[a] in SEEN and has_frames[i]) or (ids[a] == HEARD and has_sound[i])
        word = "" if by_media and rng.random() < 0.7 else f"tells{ids[a]}"
        texts.append(" ".join(rng.permutation(["the", "a", "we", *rng.choice(["was", "it", "day"], 2), word])).strip())
        if has_frames[i]:
            colour = SEEN.get(ids[a], tuple(rng.integers(90, 160, 3)))
            frames[i] = seen_as(colour) + rng.normal(0, 0.05, 3)
        if has_sound[i]:
            noise[i] = heard if ids[a] == HEARD else rng.normal(-8, 1, DIM)
            noise[i] += rng.normal(0, 0.1, DIM)
    made = EmbeddedWith(
        FramesInput(manifest.name, manifest.sha256, manifest.dim, 4),
        SoundInput("log-mel-64", DIM, 5.0) if sound else None,
    )
    q = np.eye(len(ids), dtype=np.float32)[label]
    return Rows(
        texts, q, np.ones_like(q), np.ones(q.shape, np.bool_), [f"v{i}" for i in range(count)],
        MediaRows(frames, has_frames, noise, has_sound, made),
    )  # fmt: skip


def fused_bundle(out: Path, encoder: Path, *, sound: bool = False, version: int = 1, count: int = 1_500) -> Path:
    catalogue = load_catalogue()
    made = rows(encoder, catalogue, count, 1, sound=sound)
    return distil(
        fit_fused(made, 1, lambda: None), made, None, catalogue, Title("fused", version, SOURCES["silver"], 1), out
    )
