"""Makes a frame encoder's bundle of any ONNX image encoder: normalisation goes into the graph; needs `train`."""

# pyright: reportUnknownParameterType=false
# onnx has partial types.

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.media.frame_encoder import MANIFEST, MODEL, EncoderManifest, Layout
from schemas.errors import ConfigurationError

_OURS = "vibestream/"
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class Pixels:
    """What an encoder wants: squares of `size`, scaled to `resize` before, as (value / 255 - mean) / std."""

    size: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layout: Layout = "nchw"


def build_encoder(
    model: onnx.ModelProto, pixels: Pixels, output: str | None, name: str, out: Path, source: str
) -> Path:
    """Write the bundle `out`: uint8 frames [n, size, size, 3] in, vectors [n, dim] out. Return its folder.

    Raises:
        ConfigurationError: the model takes or gives something else, it treats frames of one batch differently than
            alone, or the folder is already there.

    """
    if out.exists():
        raise ConfigurationError(f"{out} is already there; an encoder is never changed, so choose another folder")
    wrapped = wrap(model, pixels, output)
    content = wrapped.SerializeToString(deterministic=True)
    dim = _try(content, pixels)
    manifest = EncoderManifest(
        name=name, sha256=sha256(content).hexdigest(), dim=dim, size=pixels.size, resize=pixels.resize,
        mean=pixels.mean, std=pixels.std, layout=pixels.layout, output=_output(model, output), source=source,
    )  # fmt: skip
    draft = out.with_name(f".{out.name}.draft")
    draft.mkdir(parents=True, exist_ok=True)
    (draft / MODEL).write_bytes(content)
    (draft / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    draft.rename(out)
    return out


def wrap(model: onnx.ModelProto, pixels: Pixels, output: str | None = None) -> onnx.ModelProto:
    """Return the model with `frames` uint8 [n, size, size, 3] in the place of its input, and `vector` as its output.

    Raises:
        ConfigurationError: it does not take one float image, or has no such output.

    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    constants = {one.name for one in graph.initializer}
    images = [one for one in graph.input if one.name not in constants]
    if len(images) != 1 or images[0].type.tensor_type.elem_type not in _FLOATS:
        raise ConfigurationError(
            f"it takes {', '.join(one.name for one in images)}; expected one image of floats: export the vision part"
        )
    image, kind = images[0].name, images[0].type.tensor_type.elem_type
    wanted = _output(model, output)
    mean, std = np.array(pixels.mean, np.float64), np.array(pixels.std, np.float64)
    values = {
        "scale": (1 / (255 * std)).astype(np.float32),
        "shift": (-mean / std).astype(np.float32),
    }
    before = [
        helper.make_node("Cast", ["frames"], [f"{_OURS}float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{_OURS}float", f"{_OURS}scale"], [f"{_OURS}scaled"]),
        helper.make_node("Add", [f"{_OURS}scaled", f"{_OURS}shift"], [f"{_OURS}normal"]),
        helper.make_node(
            "Transpose",
            [f"{_OURS}normal"],
            [f"{_OURS}planes"],
            perm=[0, 3, 1, 2] if pixels.layout == "nchw" else [0, 1, 2, 3],
        ),
        helper.make_node("Cast", [f"{_OURS}planes"], [image], to=kind),
    ]
    after = [helper.make_node("Cast", [wanted], ["vector"], to=TensorProto.FLOAT)]
    nodes = [*before, *graph.node, *after]
    kept = [one for one in graph.input if one.name != image]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    size = pixels.size
    graph.input.extend([helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", size, size, 3]), *kept])
    graph.output.extend([helper.make_tensor_value_info("vector", TensorProto.FLOAT, None)])
    graph.initializer.extend(numpy_helper.from_array(value, f"{_OURS}{name}") for name, value in values.items())
    made.producer_name = "vibestream"
    return made


def _output(model: onnx.ModelProto, wanted: str | None) -> str:
    names = [one.name for one in model.graph.output]
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted not in names:
        raise ConfigurationError(f"it gives {', '.join(names)}; name one of these with --output, not {wanted}")
    return wanted


def _try(content: bytes, pixels: Pixels) -> int:
    """Return the length of its vectors, after it has shown that frames of one batch don't influence each other."""
    import onnxruntime as ort

    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (3, pixels.size, pixels.size, 3), dtype=np.uint8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        together: Any = session.run(["vector"], {"frames": frames})[0]
        alone = np.concatenate([np.asarray(session.run(["vector"], {"frames": one[None]})[0]) for one in frames])
    except Exception as error:  # pybind classes of ONNX Runtime share no other base
        raise ConfigurationError(
            f"it does not take a batch of {pixels.layout} squares of {pixels.size} pixels: {error}"[:500]
        ) from error
    if together.ndim != 2 or len(together) != 3:
        raise ConfigurationError(f"its output has the shape {together.shape}; name one of shape [n, dim] with --output")
    if not np.allclose(together, alone, rtol=1e-2, atol=1e-2 * float(np.abs(alone).max())):
        raise ConfigurationError("it gives a frame another vector in a batch than alone; export it in evaluation mode")
    return int(together.shape[1])
