"""The bands of a distilled student: certified on texts that it has not learned, where there are any to certify on."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.answers_file import read_answers_file
from models.band_path import BandPath, Rates, lay_path
from models.bundle import Certificate, Proof
from models.calibration import trusted
from models.cascade import BandLimits, cheapest_band
from models.certify import DELTA, Calibration, CertifiedBand, Labels, certify, draw_answers
from models.distil_rows import Rows
from models.evaluation import Truth
from models.learned import Prints, among
from schemas.annotation import AnnotatorVersion
from schemas.attributes import Attribute, Catalogue
from schemas.errors import ConfigurationError

Floats = NDArray[np.float32]
Scorer = Callable[[Rows], Floats]

_NOT_ASKED = -2
_UNTRIED = "neither rates nor answers of the LLM were given, so that nothing could be proven"


@dataclass(frozen=True)
class Trial:
    """Texts kept from the student to certify its bands, and the LLM of the cascade.

    `proof` are texts with labels by people; `pilot`, others, only say which bands to try. `teacher` are the LLM's rates
    by attribute, known from elsewhere than `proof`. `answers` [n, A] are what it said of `proof` (1: yes; _NOT_ASKED),
    None: they are drawn by those rates. `source` says in words where they come from, `annotator` who gave them.
    """

    pilot: Rows
    proof: Rows
    teacher: Sequence[Rates]
    answers: Labels | None
    source: str
    annotator: AnnotatorVersion | None = None


class Held(NamedTuple):
    """Labelled texts in three parts."""

    learn: Rows
    pilot: Rows
    proof: Rows


@dataclass(frozen=True)
class Chosen:
    """An attribute's band; `reason` is why it is not certified, None: it is. `proof` None: there was no trial of it."""

    limits: BandLimits
    proof: Proof | None
    reason: str | None


def hold_out(rows: Rows, share: float, seed: int, learned: Prints | None = None) -> Held:
    """Take this share of the texts that people labelled as proof, and half as large a share of the others as pilot.

    Neither takes a text that the trunk has `learned` already. Of the others half are proof at most and a quarter pilot,
    for the rest is what the student can be calibrated on.

    Raises:
        ConfigurationError: that leaves no text for a part.

    """
    rng = np.random.default_rng([seed, 1])
    fresh = np.ones(len(rows.texts), np.bool_) if learned is None else ~among(rows.texts, learned)
    by_people = np.flatnonzero(rows.golden.any(axis=1))
    free = rng.permutation(by_people[fresh[by_people]])
    most = len(free) if learned is None else len(free) // 2
    proof = free[: min(round(share * len(by_people)), most)]
    others = rng.permutation(np.setdiff1d(np.arange(len(rows.texts)), proof))
    free_others = others[fresh[others]]
    most = len(free_others) if learned is None else len(free_others) // 2
    pilot = free_others[: min(round(share / 2 * len(others)), most)]
    learn = np.setdiff1d(others, pilot)
    if not min(len(proof), len(pilot), len(learn)):
        raise ConfigurationError(
            f"{len(by_people)} of {len(rows.texts)} texts have golden labels, {len(free)} of these are not learned by"
            f" the trunk, and a share of {share} leaves {len(proof)} to certify on; label more, give another"
            " --certify-share, or distil without certificates"
        )
    return Held(*(rows[np.sort(part)] for part in (learn, pilot, proof)))


def stated(held: Held, rates: Rates) -> Trial:
    """Return a trial with an LLM of which only rates are known, the same for every attribute."""
    source = (
        f"drawn for an LLM of precision {rates.precision:g} and recall {rates.recall:g} whose errors do not depend on"
        " the text; these rates were stated, not measured here"
    )
    return Trial(held.pilot, held.proof, [rates] * held.proof.q.shape[1], None, source)


def answered(held: Held, path: Path, ids: Sequence[str]) -> Trial:
    """Return a trial with the answers in a file; the rates are counted where the LLM was asked about the other texts.

    Raises:
        ConfigurationError: the texts have no ids, the file can't be read, or answers nothing about the proof's texts.

    """
    said, annotator = _answers(held.proof, path, ids)
    rates = _rates(held.learn, path, ids)
    by = f" by {annotator.model}, prompt {annotator.prompt} {annotator.prompt_version}" if annotator else ""
    source = f"those in {path.name}, given{by} about these very texts"
    return Trial(held.pilot, held.proof, rates, said, source, annotator)


def choose_bands(p: Floats, rows: Rows, catalogue: Catalogue) -> list[BandLimits]:
    """Return the band of each attribute: point estimates, on the labels that are known."""
    bands: list[BandLimits] = []
    weight = trusted(rows)
    for a, attribute in enumerate(catalogue.attributes):
        known = weight[:, a] > 0
        present = rows.q[known, a] > 0.5
        bands.append(cheapest_band(p[known, a], present, attribute.target_precision, attribute.target_recall))
    return bands


def untried(point: Sequence[BandLimits]) -> list[Chosen]:
    """Return bands that are point estimates, and certified for nothing."""
    return [Chosen(limits, None, _UNTRIED) for limits in point]


def prove(
    scorer: Scorer, trial: Trial, catalogue: Catalogue, point: Sequence[BandLimits], seed: int
) -> tuple[list[Chosen], Certificate]:
    """Return the cheapest proven band of each attribute, and what that rests on.

    `scorer` is the student as it will be deployed, whole: model, calibration and all. An attribute without a label
    among the pilot's texts keeps its `point` estimate.
    """
    labels = np.where(trial.proof.golden, trial.proof.q > 0.5, -1).astype(np.int8)
    answers = trial.answers
    if answers is None:
        answers = draw_answers(labels, trial.teacher, np.random.default_rng([seed, 2]))
    labels = np.where(answers == _NOT_ASKED, -1, labels).astype(np.int8)
    paths = _paths(scorer(trial.pilot), trial, catalogue, (labels >= 0).sum(axis=0))
    tried = list(paths)
    calibration = Calibration(
        p=scorer(trial.proof).astype(np.float64)[:, tried],
        labels=labels[:, tried],
        answers=answers[:, tried],
        weights=trial.proof.weight.astype(np.float64)[:, tried],
    )
    bands = dict(zip(tried, certify(calibration, list(paths.values())), strict=True))
    chosen = [
        _chosen(attribute, bands[a])
        if a in bands
        else Chosen(point[a], None, f"none of the {len(trial.pilot.texts)} texts of the pilot has a label of it")
        for a, attribute in enumerate(catalogue.attributes)
    ]
    certificate = Certificate(
        delta=DELTA,
        texts=len(trial.proof.texts),
        pilot_texts=len(trial.pilot.texts),
        answers=trial.source,
        attributes={name: one.proof for name, one in zip(catalogue.ids, chosen, strict=True) if one.proof is not None},
        annotator=trial.annotator,
    )
    return chosen, certificate


def _paths(p: Floats, trial: Trial, catalogue: Catalogue, texts: NDArray[np.intp]) -> dict[int, BandPath]:
    paths: dict[int, BandPath] = {}
    for a, attribute in enumerate(catalogue.attributes):
        known = trial.pilot.weight[:, a] > 0
        if known.any():
            target = Rates(attribute.target_precision, attribute.target_recall)
            present = trial.pilot.q[known, a] > 0.5
            paths[a] = lay_path(p[known, a].astype(np.float64), present, target, trial.teacher[a], int(texts[a]))
    return paths


def _chosen(attribute: Attribute, band: CertifiedBand) -> Chosen:
    reason = None
    if not band.certified:
        reason = (
            f"no band is proven to reach precision {attribute.target_precision} and recall {attribute.target_recall};"
            f" this one gave precision {_shown(band.precision)} and recall {_shown(band.recall)} with"
            f" {band.positives} positives to certify on"
        )
    return Chosen(band.limits, Proof(band.precision, band.recall, band.asked, band.positives), reason)


def _shown(rate: float | None) -> str:
    return "unknown" if rate is None else f"{rate:.2f}"


def _rates(rows: Rows, path: Path, ids: Sequence[str]) -> list[Rates]:
    """Count the LLM's precision and recall by attribute, with one more of each kind: few labels say little."""
    (said, _), present = _answers(rows, path, ids), rows.q > 0.5
    asked = rows.golden & (said != _NOT_ASKED)
    yes = asked & (said == 1)
    hits = (yes & present).sum(axis=0) + 1
    precision, recall = hits / (yes.sum(axis=0) + 2), hits / ((asked & present).sum(axis=0) + 2)
    return [Rates(*map(float, one)) for one in zip(precision, recall, strict=True)]


def _answers(rows: Rows, path: Path, ids: Sequence[str]) -> tuple[Labels, AnnotatorVersion | None]:
    """Return what the LLM says [n, A]: 1, 0, -1 where it abstained, or _NOT_ASKED; and which LLM it is."""
    if not rows.videos:
        raise ConfigurationError(f"{path}: answers name videos, and these texts have no ids; give labels as silver")
    label = np.where(rows.golden, rows.q > 0.5, -1).astype(np.int8)
    truth = Truth("the texts to certify on", list(rows.videos), tuple(ids), label, rows.weight.astype(np.float64))
    said = read_answers_file(path, truth)
    with path.open(encoding="utf-8-sig", newline="") as file:
        pairs = {(row["video"].strip(), row["attribute"].strip()) for row in csv.DictReader(file)}
    asked = np.array([[(video, name) in pairs for name in ids] for video in rows.videos])
    return np.where(asked, said.label, _NOT_ASKED).astype(np.int8), said.annotator
