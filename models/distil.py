"""Distils a student from labelled texts into a bundle; needs the extra `train`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.bundle import LEARNED, MANIFEST, MODEL, TOKENIZER, BundleAttribute, Golden, Manifest, Training
from models.calibration import Floats, calibrated, fit_platt, thresholds, trusted
from models.distil_bands import Trial, choose_bands, prove, untried
from models.distil_card import CARD, model_card
from models.distil_formats import Source
from models.distil_metrics import measure, measure_heldout
from models.distil_rows import Rows
from models.learned import Prints, packed
from models.seen import Seen
from models.student import Scores, score_texts
from models.tokens import Tokens
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError

_BATCH = 32
_GOLDEN_TEXTS = 16


class Fitted(Protocol):
    """A fitted student that is not calibrated yet.

    `logits` [k, h, A] are what it says of the rows numbered in `heldout` [h], none of which it had seen when it said
    so; `trained` is the number of rows it has learned.
    """

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns texts into the model's ids."""
        ...

    @property
    def heldout(self) -> NDArray[np.intp]:
        """Row numbers."""
        ...

    @property
    def logits(self) -> Floats:
        """[k, h, A]."""
        ...

    @property
    def trained(self) -> int:
        """Rows learned."""
        ...

    @property
    def learned(self) -> Prints:
        """Texts that the layers below the vector have learned."""
        ...

    @property
    def space(self) -> str | None:
        """The bundle whose trunk it has, if it is not its own."""
        ...

    @property
    def max_tokens(self) -> int:
        """Where texts are cut."""
        ...

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        ...

    @property
    def opset(self) -> int:
        """Of the model."""
        ...

    def graph(self, platt: Floats) -> bytes:
        """Return the ONNX model with the calibration [k + 1, A] inside."""
        ...


@dataclass(frozen=True)
class Title:
    """What the bundle is called, and where its data is from."""

    name: str
    version: int
    source: Source
    seed: int


def distil(
    fitted: Fitted,
    rows: Rows,
    dev: Rows | None,
    catalogue: Catalogue,
    title: Title,
    out: Path,
    trial: Trial | None = None,
) -> Path:
    """Calibrate `fitted` on its held-out `rows`, choose thresholds there and bands by `trial`, and write the bundle.

    Without a trial no attribute is certified, and bands are point estimates on the held-out rows. Without `dev` texts
    the bundle's metrics are those of the held-out rows. Returns its folder, `out`/name/version.

    Raises:
        ConfigurationError: the folder is already there, or an attribute has no label to calibrate or measure on.

    """
    path = out / title.name / str(title.version)
    if path.exists():
        raise ConfigurationError(f"{path} is already there; a bundle is never changed, so choose another version")
    heldout = rows[fitted.heldout]
    check_labels(heldout, catalogue, "held-out")
    if dev:
        check_labels(dev, catalogue, "dev")
    platt = fit_platt(fitted.logits, heldout.q, trusted(heldout))
    p = calibrated(fitted.logits, platt)
    threshold = thresholds(p, heldout)
    model = fitted.graph(platt)
    files = {MODEL: model, TOKENIZER: fitted.tokenizer.to_str().encode(), LEARNED: packed(fitted.learned)}
    point, certificate = choose_bands(p, heldout, catalogue), None
    if trial:
        chosen, certificate = prove(
            lambda part: score_rows(model, fitted.tokenizer, part), trial, catalogue, point, title.seed
        )
    else:
        chosen = untried(point)
    bands = [one.limits for one in chosen]
    texts = golden_texts(catalogue)
    if dev:
        dev_p = score_rows(model, fitted.tokenizer, dev)
        metrics = measure(dev_p, dev, catalogue.ids, bands, threshold, "dev")
    else:
        metrics = measure_heldout(p, heldout, catalogue.ids, bands)
    manifest = Manifest(
        name=title.name,
        version=title.version,
        files={name: sha256(content).hexdigest() for name, content in files.items()},
        attributes=tuple(
            BundleAttribute(
                id=attribute.id,
                version=attribute.version,
                lo=bands[a].lo,
                hi=bands[a].hi,
                threshold=float(threshold[a]),
                platt=tuple(platt[:, a].round(5).tolist()),
                certified=chosen[a].reason is None,
                reason=chosen[a].reason,
            )
            for a, attribute in enumerate(catalogue.attributes)
        ),
        catalogue=catalogue,
        certified=all(one.reason is None for one in chosen),
        dim=fitted.dim,
        max_tokens=fitted.max_tokens,
        opset=fitted.opset,
        training=Training(
            data=title.source.data,
            licence=title.source.licence,
            rows=fitted.trained,
            heldout_rows=len(heldout.texts),
            seed=title.seed,
            space=fitted.space,
        ),
        metrics=metrics,
        golden=Golden(
            texts=tuple(texts),
            probability=tuple(
                tuple(row) for row in score(model, fitted.tokenizer, texts).probability.round(5).tolist()
            ),
        ),
        certificate=certificate,
        frames=rows.media.made.frames if rows.media else None,
        sound=rows.media.made.sound if rows.media else None,
    )
    _write(path, manifest, files)
    return path


def check_labels(rows: Rows, catalogue: Catalogue, what: str) -> None:
    """Refuse attributes that no text has a label of.

    Raises:
        ConfigurationError: there are some.

    """
    known = (rows.weight > 0).sum(axis=0)
    bare = [name for a, name in enumerate(catalogue.ids) if not known[a]]
    if bare:
        raise ConfigurationError(
            f"none of the {len(rows.texts)} {what} texts has a label of {', '.join(bare)}; label some, or take the"
            " attribute out of the catalogue"
        )


def golden_texts(catalogue: Catalogue) -> Sequence[str]:
    """Return the texts of a bundle's self-check: an empty one, and some examples of its attributes."""
    return ["", *(attribute.positive_examples[0] for attribute in catalogue.attributes[:_GOLDEN_TEXTS])]


def score_rows(model: bytes, tokenizer: Tokenizer, rows: Rows) -> Floats:
    """Return the probabilities [n, A] of rows, with what was seen of them."""
    return score(model, tokenizer, rows.texts, rows.media.seen() if rows.media else None).probability


def score(model: bytes, tokenizer: Tokenizer, texts: Sequence[str], seen: Sequence[Seen] | None = None) -> Scores:
    """Score texts with a model that is in no bundle yet, on one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return score_texts(session, Tokens(tokenizer), texts, _BATCH, seen)


def next_version(out: Path, name: str) -> int:
    """Return 1 more than the highest version of this name in `out`."""
    folder = out / name
    found = [int(one.name) for one in folder.iterdir() if one.name.isdigit()] if folder.is_dir() else []
    return max(found, default=0) + 1


def summary(manifest: Manifest) -> str:
    """Return what the bundle is worth in one line."""
    metrics = manifest.metrics
    judged = "texts of the dev file" if metrics.on == "dev" else "held-out texts"
    return (
        f"macro F1 {metrics.macro_f1:.4f}, ECE {metrics.macro_ece:.4f} over {len(metrics.attributes)} attributes on"
        f" {metrics.rows} {judged}; {metrics.uncertain_any:.1%} would be asked about;"
        f" {sum(one.certified for one in manifest.attributes)} attributes certified"
    )


def _write(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Write all files into a folder beside `path`, then rename it: a bundle is there whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    draft.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (draft / name).write_bytes(content)
    (draft / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    (draft / CARD).write_text(model_card(manifest), encoding="utf-8")
    draft.rename(path)
