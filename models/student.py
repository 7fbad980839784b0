"""The student: an ONNX session in a thread of its own."""

import asyncio
import ctypes
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, load_bundle
from models.cascade import BandLimits
from models.features import load_tokenizer
from models.seen import NOTHING, Seen, media_feed, media_inputs
from models.tokens import Tokens, padded
from models.verdicts import Verdicts
from monitoring import metrics
from schemas.annotation import StudentVersion
from schemas.attributes import Catalogue
from schemas.errors import BundleError, ConfigurationError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Provider = Literal["cpu", "cuda"]

_BATCH: dict[Provider, int] = {"cpu": 32, "cuda": 256}
_GOLDEN_TOLERANCE = 2e-3
_PACKAGES: dict[str, str] = {"onnxruntime": "cpu", "onnxruntime-gpu": "gpu"}


@dataclass(frozen=True)
class Scores:
    """One row per text: calibrated probabilities [n, A] in catalogue order and unit vectors [n, dim]."""

    probability: NDArray[np.float32]
    embedding: NDArray[np.float16]


class Student:
    """Scores texts on attributes. `Student.load` makes one; `close` ends its thread.

    Tokens and model run in its single thread, off the event loop (`tokenizers` may spread a large run over more cores;
    TOKENIZERS_PARALLELISM=false keeps it to one). Texts of similar length are scored together, so little is padded.
    """

    def __init__(self, bundle: Bundle, session: "InferenceSession", catalogue: Catalogue, batch: int) -> None:
        manifest = bundle.manifest
        order = [attribute.id for attribute in manifest.attributes]
        limits = {attribute.id: BandLimits(attribute.lo, attribute.hi) for attribute in manifest.attributes}
        self.version = StudentVersion(name=manifest.name, version=manifest.version)
        self.ids = catalogue.ids
        self.dim = manifest.dim
        self.bands: Mapping[str, BandLimits] = {name: limits[name] for name in catalogue.ids}
        self.certified = frozenset(attribute.id for attribute in manifest.attributes if attribute.certified)
        self.verdicts = Verdicts(self.bands, self.ids, self.certified)
        self.certified_with = manifest.certificate.annotator if manifest.certificate else None
        thresholds = {attribute.id: attribute.threshold for attribute in manifest.attributes}
        self.thresholds: Mapping[str, float] = {name: thresholds[name] for name in catalogue.ids}
        self._tokens = Tokens(load_tokenizer(bundle.tokenizer, manifest.max_tokens))
        measured = {
            name: manifest.metrics.attributes[name] for name in catalogue.ids if name in manifest.metrics.attributes
        }
        self.reference: Mapping[tuple[str, str], float] = {
            (name, band): share
            for name, m in measured.items()
            for band, share in (
                ("accept", m.accept),
                ("uncertain", m.uncertain),
                ("reject", 1 - m.accept - m.uncertain),
            )
        }
        self._columns = [order.index(name) for name in catalogue.ids]
        self.frames, self.sound = manifest.frames, manifest.sound
        self._session = session
        self._batch = batch
        metrics.STUDENT_BATCH_LIMIT.set(batch)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="student")

    @classmethod
    def load(cls, path: Path, catalogue: Catalogue | None = None, provider: Provider = "cpu") -> Self:
        """Verify the bundle in `path` and start it; blocks for about a second.

        Without a catalogue it scores all attributes that the bundle was distilled for, in their order.

        Raises:
            BundleError: the bundle is damaged, lacks an attribute of the catalogue, can't run on `provider`, or gives
                other probabilities than when it was made.
            ConfigurationError: not exactly one of onnxruntime and onnxruntime-gpu is installed.

        """
        check_runtime()
        bundle = load_bundle(path)
        catalogue = catalogue or bundle.manifest.catalogue
        _check_attributes(bundle, catalogue)
        student = cls(bundle, open_session(bundle, provider), catalogue, _BATCH[provider])
        try:
            student._check_golden(bundle)
        except BundleError:
            student.close()
            raise
        return student

    async def score(self, texts: Sequence[str]) -> Scores:
        """Score `texts`; row i belongs to text i.

        Raises:
            BundleError: the model gave NaN or infinity.

        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.score_now, tuple(texts))

    async def score_seen(self, texts: Sequence[str], seen: Sequence[Seen]) -> Scores:
        """Score `texts` with what was seen and heard of each; what this student has no input for does not count.

        Raises:
            BundleError: the model gave NaN or infinity.

        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self.score_now(tuple(texts), tuple(seen))
        )

    def close(self) -> None:
        """End the thread; what it is scoring is finished first."""
        self._thread.shutdown()

    def score_now(self, texts: Sequence[str], seen: Sequence[Seen] | None = None) -> Scores:
        """Do the same in this thread."""
        started = time.perf_counter()
        scores = score_texts(self._session, self._tokens, texts, self._batch, seen)
        metrics.STUDENT_SECONDS.observe(time.perf_counter() - started)
        metrics.STUDENT_TEXTS.inc(len(texts))
        metrics.STUDENT_BATCHES.inc(-(-len(texts) // self._batch))
        probability, embedding = scores.probability[:, self._columns], scores.embedding
        if not (np.isfinite(probability).all() and np.isfinite(embedding).all()):
            raise BundleError(f"student {self.version.name} {self.version.version} gave NaN or infinity; distil again")
        return Scores(probability, embedding)

    def _check_golden(self, bundle: Bundle) -> None:
        golden = bundle.manifest.golden
        got = self.score_now(golden.texts).probability
        expected = np.asarray(golden.probability, np.float32)[:, self._columns]
        difference = float(np.abs(got - expected).max())
        if difference > _GOLDEN_TOLERANCE:
            raise BundleError(
                f"{bundle.path}: golden texts differ by {difference:.4f} in probability, expected at most"
                f" {_GOLDEN_TOLERANCE}; install the onnxruntime and tokenizers of pyproject.toml or distil again"
            )


def score_texts(
    session: "InferenceSession",
    tokens: Tokens,
    texts: Sequence[str],
    batch: int,
    seen: Sequence[Seen] | None = None,
) -> Scores:
    """Score texts with a bundle's model, all its attributes, `batch` texts of similar length at a time.

    `seen` holds what was seen and heard of each; None: nothing of any.
    """
    media = media_inputs(session)
    attributes, dim = (output.shape[1] for output in session.get_outputs())
    probability = np.empty((len(texts), attributes), np.float32)
    embedding = np.empty((len(texts), dim), np.float16)
    rows = tokens.rows(texts)
    by_length = np.argsort(np.fromiter(map(len, rows), np.int64, len(rows)), kind="stable").tolist()
    for start in range(0, len(rows), batch):
        chosen = by_length[start : start + batch]
        ids, mask = padded([rows[i] for i in chosen])
        feed: dict[str, NDArray[Any]] = {"ids": ids, "mask": mask}
        if media:
            feed |= media_feed(media, [seen[i] for i in chosen] if seen else [NOTHING] * len(chosen))
        p, vector = session.run(["probability", "vector"], feed)
        probability[chosen] = np.asarray(p)
        embedding[chosen] = np.asarray(vector)
    return Scores(probability, embedding)


def check_runtime() -> None:
    """Check that exactly one of the two packages that own the module `onnxruntime` is installed.

    Raises:
        ConfigurationError: none or both are.

    """
    found = [package for package in _PACKAGES if _installed(package)]
    if not found:
        raise ConfigurationError("onnxruntime is not installed; install vibestream[cpu] or vibestream[gpu]")
    if len(found) > 1:
        raise ConfigurationError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; uninstall both, then install"
            " vibestream[cpu] or vibestream[gpu]"
        )


class OnnxFile(Protocol):
    """A model in memory, and where it is from."""

    @property
    def path(self) -> Path:
        """For messages."""
        ...

    @property
    def model(self) -> bytes:
        """The serialised graph."""
        ...


def open_session(bundle: OnnxFile, provider: Provider) -> "InferenceSession":
    """Start the bundle's model with one thread, wholly on `provider`.

    ONNX Runtime by itself falls back to the CPU without a word; this refuses.

    Raises:
        BundleError: the model can't be read or can't run on `provider`.

    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    wanted = "CPUExecutionProvider"
    if provider == "cuda":
        _load_cuda(bundle)
        wanted = "CUDAExecutionProvider"
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(bundle.model, options, providers=[wanted])
    except Exception as error:  # pybind classes of ONNX Runtime share no other base
        raise BundleError(f"{bundle.path}: ONNX Runtime can't run the model on {provider}: {error}") from error
    metrics.STUDENT_PROVIDER.labels(provider, session.get_providers()[0]).set(1)
    if wanted not in session.get_providers():
        raise BundleError(
            f"{bundle.path}: asked for {wanted}, ONNX Runtime gave {', '.join(session.get_providers())}; check driver"
            " and CUDA libraries, or set the provider to cpu"
        )
    return session


def _load_cuda(bundle: OnnxFile) -> None:
    """Load the CUDA libraries that came as packages; only where there is a driver, else the preload crashes."""
    import onnxruntime as ort

    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise BundleError(
            f"{bundle.path}: provider cuda, but this ONNX Runtime was built without; install vibestream[gpu]"
        )
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise BundleError(f"{bundle.path}: provider cuda, but {error}; install the NVIDIA driver or use cpu") from error
    ort.preload_dlls()


def _check_attributes(bundle: Bundle, catalogue: Catalogue) -> None:
    known = {attribute.id: attribute.version for attribute in bundle.manifest.attributes}
    wrong = [
        f"{attribute.id} version {attribute.version} (bundle: {known.get(attribute.id, 'none')})"
        for attribute in catalogue.attributes
        if known.get(attribute.id) != attribute.version
    ]
    if wrong:
        raise BundleError(f"{bundle.path} does not cover the catalogue: {', '.join(wrong)}; distil again")


def _installed(package: str) -> bool:
    try:
        installed_version(package)
    except PackageNotFoundError:
        return False
    return True
