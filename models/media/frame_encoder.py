"""The frame encoder: an ONNX image encoder with its manifest, {model.onnx, encoder.json}; any that gives [n, dim].

The model takes `frames`, uint8 [n, size, size, 3], RGB, and returns `vector`, float32 [n, dim]; how pixels become
numbers is in the graph, and in the manifest for people.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from models.student import Provider, check_runtime, open_session
from monitoring import metrics
from schemas.errors import BundleError
from schemas.fields import Id

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MODEL, MANIFEST = "model.onnx", "encoder.json"
Layout = Literal["nchw", "nhwc"]
Vectors = NDArray[np.float16]

_BATCH: dict[Provider, int] = {"cpu": 8, "cuda": 128}
_REMEMBERED = 8_192
_MAX_BYTES = 4 * 2**30


class EncoderManifest(Struct, frozen=True, kw_only=True):
    """What an encoder is: `sha256` of its model, `dim` of its vectors, and how it wants frames.

    A frame is scaled to `resize` pixels on its short side, cut to `size`, and normalised in the graph as
    (value / 255 - mean) / std; `layout` and `output` are the original model's.
    """

    name: Id
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    dim: Annotated[int, Meta(ge=1, le=8_192)]
    size: Annotated[int, Meta(ge=16, le=1_024)]
    resize: Annotated[int, Meta(ge=16, le=2_048)]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layout: Layout
    output: str
    source: str


def load_encoder_manifest(path: Path) -> EncoderManifest:
    """Read the manifest of the encoder in folder `path`.

    Raises:
        BundleError: it is missing or malformed.

    """
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=EncoderManifest)
    except OSError as error:
        raise BundleError(
            f"{path / MANIFEST}: {error.strerror}; make one with `vibestream frame-encoder build`"
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{path / MANIFEST}: {error}; make it again with `vibestream frame-encoder build`") from error
    if manifest.size > manifest.resize:
        raise BundleError(f"{path / MANIFEST}: size {manifest.size} is above resize {manifest.resize}; correct it")
    return manifest


@dataclass(frozen=True)
class _Read:
    path: Path
    model: bytes


class FrameEncoder:
    """Encodes frames of many videos together, in a thread of its own; what it has seen lately it remembers by hash."""

    def __init__(self, manifest: EncoderManifest, session: "InferenceSession", batch: int) -> None:
        self.manifest = manifest
        self._session = session
        self._batch = batch
        self._known: OrderedDict[bytes, Vectors] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="frames")

    @classmethod
    def load(cls, path: Path, provider: Provider = "cpu") -> Self:
        """Verify the encoder in folder `path` and start it; blocks for about a second.

        Raises:
            BundleError: it is missing or damaged, or can't run on `provider`.
            ConfigurationError: not exactly one of onnxruntime and onnxruntime-gpu is installed.

        """
        check_runtime()
        manifest = load_encoder_manifest(path)
        try:
            if (path / MODEL).stat().st_size > _MAX_BYTES:
                raise BundleError(f"{path / MODEL}: more than {_MAX_BYTES} bytes; use a smaller encoder")
            model = (path / MODEL).read_bytes()
        except OSError as error:
            raise BundleError(f"{path / MODEL}: {error.strerror}; copy the encoder again") from error
        got = sha256(model).hexdigest()
        if got != manifest.sha256:
            raise BundleError(f"{path / MODEL}: expected sha256 {manifest.sha256}, got {got}; copy the encoder again")
        return cls(manifest, open_session(_Read(path, model), provider), _BATCH[provider])

    async def encode(self, videos: Sequence[NDArray[np.uint8]]) -> list[Vectors]:
        """Return [frames, dim] for each video's frames, uint8 [frames, size, size, 3]."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._encode, list(videos))

    def close(self) -> None:
        """End the thread; what it encodes is finished first."""
        self._thread.shutdown()

    def _encode(self, videos: Sequence[NDArray[np.uint8]]) -> list[Vectors]:
        keys = [[blake2b(frame, digest_size=16).digest() for frame in frames] for frames in videos]
        fresh: dict[bytes, NDArray[np.uint8]] = {}
        for frames, names in zip(videos, keys, strict=True):
            for frame, key in zip(frames, names, strict=True):
                if key in self._known:
                    self._known.move_to_end(key)
                else:
                    fresh[key] = frame
        found = {key: self._known[key] for names in keys for key in names if key in self._known}
        waiting = list(fresh.items())
        for at in range(0, len(waiting), self._batch):
            part = waiting[at : at + self._batch]
            vectors = np.asarray(self._session.run(["vector"], {"frames": np.stack([frame for _, frame in part])})[0])
            if not np.isfinite(vectors).all():
                raise BundleError(f"frame encoder {self.manifest.name} gave NaN or infinity; use another")
            limit = np.finfo(np.float16).max
            for (key, _), vector in zip(part, vectors, strict=True):
                self._known[key] = found[key] = np.clip(vector, -limit, limit).astype(np.float16)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        metrics.MEDIA_FRAMES.labels("encoded").inc(len(fresh))
        metrics.MEDIA_FRAMES.labels("known").inc(sum(map(len, keys)) - len(fresh))
        empty = np.empty((0, self.manifest.dim), np.float16)
        return [np.stack([found[key] for key in names]) if names else empty for names in keys]
