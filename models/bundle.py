"""A student bundle: <name>/<version>/{model.onnx, tokenizer.json, learned.bin, manifest.json}, checked before use.

The model takes `ids` and `mask`, int64 [n, tokens], and returns `probability`, float32 [n, attributes], calibrated, and
`vector`, float32 [n, dim], L2-normalised. (An output named `embedding` collides with an operator's value name in ONNX.)
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from schemas.annotation import AnnotatorVersion
from schemas.attributes import AttributeId, Catalogue
from schemas.errors import BundleError
from schemas.fields import Id, Probability

MODEL, TOKENIZER, LEARNED, MANIFEST = "model.onnx", "tokenizer.json", "learned.bin", "manifest.json"
MAX_FILE_BYTES = 512 * 2**20
_EXTERNAL_DATA = b"\x0a\x08location"
"""How protobuf writes the key of an ONNX tensor that lies in another file."""

Count = Annotated[int, Meta(ge=1)]


class BundleAttribute(Struct, frozen=True):
    """An attribute that the student was distilled for, and its band. hi is 1 where nothing is accepted.

    `threshold` is for who wants a yes or no of every video: there F1 was best on held-out texts. `platt` are the scales
    of the student's logits and the offset; the model has them inside. `certified`: it is proven that the band keeps the
    catalogue's targets, see `models.certify`; where it is not, `reason` says why.
    """

    id: AttributeId
    version: Count
    lo: Probability
    hi: Probability
    threshold: Probability
    platt: tuple[float, ...]
    certified: bool = False
    reason: str | None = None


class Training(Struct, frozen=True):
    """Where the student comes from.

    `rows` were learned; calibration, thresholds and bands come from `heldout_rows`, each scored by a fit that had not
    seen it: all rows, or, on the trunk of another bundle (`space`, its name and version), those that the trunk had not.
    """

    data: str
    licence: str
    rows: Count
    heldout_rows: Count
    seed: int
    space: str | None = None


class Proof(Struct, frozen=True):
    """What an attribute's band gave on the texts to certify on, the LLM's errors included; unweighted shares.

    `asked` is the share of texts that the LLM was asked about, `positives` how many of them have the attribute. None:
    there is no text to tell.
    """

    precision: float | None
    recall: float | None
    asked: float | None
    positives: int


class Certificate(Struct, frozen=True):
    """What the certified bands rest on: `texts` labelled by people that the student has not learned.

    For each attribute by itself the chance is at most `delta` that a band is called certified and misses its targets.
    `pilot_texts`, others, only said which bands to try. `answers` says where the LLM's come from: a certificate is
    worth nothing for an LLM that is worse. `annotator` is who gave them; None where they don't say, or were drawn by
    stated rates.
    """

    delta: float
    texts: Count
    pilot_texts: Count
    answers: str
    attributes: dict[str, Proof]
    annotator: AnnotatorVersion | None = None


class AttributeMetrics(Struct, frozen=True):
    """One attribute; `accept` and `uncertain` are shares of the texts whose label is known.

    `f1` is at the threshold, and `ece` over 15 bins of equal mass. `accept_precision` is the student's alone;
    `precision` and `recall` are the cascade's, as if the LLM were always right. None: no such texts.
    """

    positives: int
    f1: float
    ece: float
    accept: float
    uncertain: float
    accept_precision: float | None
    precision: float | None
    recall: float | None


class Metrics(Struct, frozen=True):
    """What the bundle does on `rows` texts; `uncertain_any`: share of them that cost an LLM call.

    `on`: `dev` is a file that nothing was fitted or chosen on. `heldout`: there was none, so these are the held-out
    rows, with thresholds chosen on one half and judged on the other; bands and calibration were fitted on them, too.
    """

    on: Literal["dev", "heldout"]
    rows: Count
    macro_f1: float
    macro_ece: float
    uncertain_any: float
    attributes: dict[str, AttributeMetrics]


class Golden(Struct, frozen=True):
    """A self-check at load: these texts give these probabilities, [texts, attributes]."""

    texts: Annotated[tuple[str, ...], Meta(min_length=1)]
    probability: tuple[tuple[Probability, ...], ...]


class FramesInput(Struct, frozen=True):
    """The student sees: `frames` float32 [n, frames, dim] and `frames_mask` float32 [n, frames], 0: not there.

    They come from the frame encoder whose model has this sha256, `count` from each video.
    """

    encoder: Id
    sha256: str
    dim: Count
    count: Count


class SoundInput(Struct, frozen=True):
    """The student hears: `sound` float32 [n, dim] and `sound_mask` float32 [n, 1], of the first `seconds`."""

    features: Literal["log-mel-64"]
    dim: Count
    seconds: float


class Manifest(Struct, frozen=True, kw_only=True):
    """What a bundle is. `attributes` are in the order of the model's output; `files` maps names to sha256.

    `catalogue` holds the definitions that the student was distilled for. `certified`: every attribute is. `frames` and
    `sound`: what the model takes beside the text; each may be missing from a video, and both are from most.
    """

    name: Id
    version: Annotated[int, Meta(ge=1, le=2**11 - 1)]
    files: dict[str, str]
    attributes: Annotated[tuple[BundleAttribute, ...], Meta(min_length=1)]
    catalogue: Catalogue
    certified: bool
    dim: Count
    max_tokens: Count
    opset: Count
    training: Training
    metrics: Metrics
    golden: Golden
    certificate: Certificate | None = None
    frames: FramesInput | None = None
    sound: SoundInput | None = None


@dataclass(frozen=True)
class Bundle:
    """A verified bundle, in memory."""

    path: Path
    manifest: Manifest
    model: bytes
    tokenizer: bytes


def default_bundle() -> Path:
    """Return the folder of the student that ships with vibestream."""
    return Path(__file__).parent / "students" / "nano" / "1"


def load_manifest(path: Path) -> Manifest:
    """Read the manifest of the bundle in folder `path`, and none of its other files.

    Raises:
        BundleError: it is missing, too large or malformed.

    """
    manifest_path = path / MANIFEST
    try:
        manifest = msgspec.json.decode(_read(manifest_path), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{manifest_path}: {error}; copy the bundle again, or rebuild it") from error
    if set(manifest.files) | {LEARNED} != {MODEL, TOKENIZER, LEARNED}:
        raise BundleError(
            f"{manifest_path}: files are {sorted(manifest.files)}, expected {MODEL}, {TOKENIZER}, {LEARNED}"
        )
    inverted = [a.id for a in manifest.attributes if a.lo > a.hi]
    if inverted:
        raise BundleError(f"{manifest_path}: lo is above hi for {', '.join(inverted)}; rebuild the bundle")
    return manifest


def load_bundle(path: Path) -> Bundle:
    """Read and verify the bundle in folder `path`.

    Raises:
        BundleError: a file is missing, too large, not what the manifest's checksum says, or names data outside the
            bundle; or the manifest is malformed.

    """
    manifest = load_manifest(path)
    model, tokenizer = (_verified(path / name, manifest.files[name]) for name in (MODEL, TOKENIZER))
    if _EXTERNAL_DATA in model:
        raise BundleError(f"{path / MODEL} keeps tensors in other files, expected one file; save it without them")
    return Bundle(path, manifest, model, tokenizer)


def load_learned(path: Path) -> bytes:
    """Read and verify what the bundle in folder `path` tells about the texts that its trunk has learned.

    Raises:
        BundleError: it is missing or not what the manifest's checksum says.

    """
    manifest = load_manifest(path)
    if LEARNED not in manifest.files:
        raise BundleError(f"{path} has no {LEARNED}, so that nobody can tell what it was distilled on; distil it again")
    return _verified(path / LEARNED, manifest.files[LEARNED])


def _verified(path: Path, expected: str) -> bytes:
    content = _read(path)
    got = sha256(content).hexdigest()
    if got != expected:
        raise BundleError(f"{path}: expected sha256 {expected}, got {got}; copy the bundle again")
    return content


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BundleError(f"{path}: {size} bytes, expected at most {MAX_FILE_BYTES}; use a smaller model")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: {error.strerror}; point to a folder with {MANIFEST}, {MODEL}, {TOKENIZER}"
        ) from error
