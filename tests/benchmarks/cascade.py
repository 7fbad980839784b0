"""What certified bands cost and keep, beside bands by point estimate, simulated on GoEmotions.

A student learns from 40 % of the texts; 10 % are the pilot, which lays out the bands to try; the others are the pool.
Each seed calibrates on a random third of the pool and is judged on its other two thirds, so that so many seeds are so
many calibrations of one student. The LLM is simulated: its errors depend on the label alone. A violation is an
attribute, certified in one seed, whose precision or recall is below target there. That counts against a certificate
which is right where the judged texts happen to run low, so `violations_exact` counts again without this noise: the
pool is taken for all of traffic, calibration texts are drawn from it with replacement, and its own rates judge.

`llm_share` is the mean over attributes of the share of texts that the LLM is asked about; `asked_any` the share of
texts with at least one question, each of which costs a call.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.band_path import BandPath, Rates, tally
from models.calibration import fit_platt
from models.cascade import BandLimits
from models.certify import DELTA, Calibration, certify, draw_answers, lay_paths
from models.distil import score
from models.distil_formats import label_catalogue, read_rows
from models.distil_rows import Rows
from models.nano import fit_nano

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]
Masks = NDArray[np.bool_]

HEADLINE = (Rates(0.80, 0.70), Rates(1.0, 1.0))
OTHERS = ((Rates(0.75, 0.60), Rates(0.85, 0.78)), (Rates(0.70, 0.60), Rates(0.95, 0.90)))
MIN_POSITIVES = 500
FILES = ("goemotions_train.tsv.gz", "goemotions_dev.tsv.gz")


@dataclass(frozen=True)
class Scored:
    """Texts that the student never saw, the pool and the pilot: probabilities and labels, [n, A] and [m, A]."""

    p: Floats
    labels: Labels
    pilot_p: Floats
    pilot_labels: Labels


@dataclass(frozen=True)
class Outcome:
    """One seed: shares over attributes, and over texts for `asked_any`."""

    llm_share: float
    asked_any: float
    precision: float
    recall: float
    violations: float
    precision_violations: float
    recall_violations: float
    uncertified: float


Choose = Callable[[Calibration], Sequence[BandLimits | None]]
"""Returns the band of each attribute, None where nothing is promised: then the LLM is asked about every text."""


def read_texts(folder: Path) -> Rows:
    """Read train and dev; the attributes are the labels, but for neutral, with enough positives in train."""
    paths = [folder / name for name in FILES]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        sys.exit(f"{folder}: {', '.join(missing)} missing; the simulation needs GoEmotions there (make REAL=FOLDER)")
    catalogue = label_catalogue("goemotions", paths)
    train, rows = (read_rows("goemotions", chosen, catalogue) for chosen in (paths[:1], paths))
    positives = train.q.sum(axis=0)
    kept = [a for a, name in enumerate(catalogue.ids) if positives[a] >= MIN_POSITIVES and name != "neutral"]
    print(f"{len(rows.texts)} texts, attributes: {', '.join(catalogue.ids[a] for a in kept)}", file=sys.stderr)
    return Rows(rows.texts, rows.q[:, kept], rows.weight[:, kept], rows.golden[:, kept])


def train_and_score(rows: Rows) -> Scored:
    """Train the student on 40 % of the texts and score the others with it."""
    order = np.random.default_rng(1).permutation(len(rows.texts))
    student, pilot, pool = (rows[part] for part in np.split(order, [int(0.4 * len(order)), int(0.5 * len(order))]))
    fitted = fit_nano(student, 1, lambda: None)
    model = fitted.graph(fit_platt(fitted.logits, student.q, student.weight))
    p_pilot, p_pool = (score(model, fitted.tokenizer, part.texts).probability for part in (pilot, pool))
    return Scored(
        p_pool.astype(np.float64), pool.q.astype(np.int8), p_pilot.astype(np.float64), pilot.q.astype(np.int8)
    )


def read_scores(path: Path) -> Scored:
    """Read another student's: arrays p [n, A], labels [n, A], pilot_p [m, A] and pilot_labels [m, A] in an .npz."""
    with np.load(path) as arrays:
        return Scored(
            arrays["p"].astype(np.float64),
            arrays["labels"].astype(np.int8),
            arrays["pilot_p"].astype(np.float64),
            arrays["pilot_labels"].astype(np.int8),
        )


def judge(bands: Sequence[BandLimits | None], p: Floats, positive: Masks, yes: Masks, target: Rates) -> Outcome:
    """Run the cascade over texts [n, A] that the bands were not chosen on."""
    lo, hi = (
        np.array([0.0 if b is None else b[0] for b in bands]),
        np.array([np.inf if b is None else b[1] for b in bands]),
    )
    promised = np.array([band is not None for band in bands])
    accepted = p >= hi
    asked = (p >= lo) & ~accepted
    found = accepted | (asked & yes)
    hits = (found & positive).sum(axis=0)
    precision = hits / np.maximum(found.sum(axis=0), 1)
    recall = hits / np.maximum(positive.sum(axis=0), 1)
    imprecise, incomplete = promised & (precision < target.precision), promised & (recall < target.recall)
    return Outcome(
        llm_share=float(asked.mean()),
        asked_any=float(asked.any(axis=1).mean()),
        precision=float(precision.mean()),
        recall=float(recall.mean()),
        violations=float((imprecise | incomplete).mean()),
        precision_violations=float(imprecise.mean()),
        recall_violations=float(incomplete.mean()),
        uncertified=float(1 - promised.mean()),
    )


def by_certificate(paths: Sequence[BandPath]) -> Choose:
    """Choose the cheapest band that is proven."""

    def choose(calibration: Calibration) -> list[BandLimits | None]:
        return [band.limits if band.certified else None for band in certify(calibration, paths)]

    return choose


def by_point_estimate(target: Rates) -> Choose:
    """Choose the cheapest band that meets both targets on the calibration texts themselves."""

    def choose(calibration: Calibration) -> list[BandLimits | None]:
        chosen: list[BandLimits | None] = []
        for p, labels, answers in zip(calibration.p.T, calibration.labels.T, calibration.answers.T, strict=True):
            positive, yes = labels == 1, answers == 1
            bands = tally(p, *(mask.astype(np.float64) for mask in (positive, yes, yes & positive)))
            meets = (bands.precision() >= target.precision) & (bands.recall() >= target.recall)
            best = int(np.argmin(np.where(meets, bands.asked, np.inf)))
            chosen.append(BandLimits(float(bands.lo[best]), float(bands.hi[best])) if meets.any() else None)
        return chosen

    return choose


def simulate(
    scored: Scored, target: Rates, teacher: Rates, choose: Choose, seeds: int, *, replace: bool = False
) -> dict[str, float]:
    """Return the means over seeds; with `replace` the pool is all of traffic, see above."""
    n, attributes = scored.p.shape
    answers = draw_answers(scored.labels, [teacher] * attributes, np.random.default_rng(2))
    outcomes: list[Outcome] = []
    for seed in range(seeds):
        rng = np.random.default_rng([3, seed])
        order = rng.integers(n, size=n // 3) if replace else rng.permutation(n)
        drawn, rest = order[: n // 3], np.arange(n) if replace else order[n // 3 :]
        bands = choose(Calibration(scored.p[drawn], scored.labels[drawn], answers[drawn]))
        outcomes.append(judge(bands, scored.p[rest], scored.labels[rest] == 1, answers[rest] == 1, target))
    names = list(Outcome.__dataclass_fields__)
    table = np.array([[getattr(outcome, name) for name in names] for outcome in outcomes])
    means = dict(zip(names, table.mean(axis=0).round(4).tolist(), strict=True))
    error = table[:, names.index("violations")].std(ddof=1) / np.sqrt(seeds)
    return {**means, "violations_mc_error": round(float(error), 4)}


def compare(scored: Scored, target: Rates, teacher: Rates, seeds: int) -> dict[str, dict[str, float]]:
    """Return both ways of choosing, side by side."""
    n, attributes = scored.p.shape
    paths = lay_paths(scored.pilot_p, scored.pilot_labels, [target] * attributes, [teacher] * attributes, n // 3)
    proven = simulate(scored, target, teacher, by_certificate(paths), seeds)
    exact = simulate(scored, target, teacher, by_certificate(paths), seeds, replace=True)
    point = simulate(scored, target, teacher, by_point_estimate(target), seeds)
    result = {"certified": {**proven, "violations_exact": exact["violations"]}, "point": point}
    for name, means in result.items():
        print(f"{target} LLM {teacher} {name}: {means}", file=sys.stderr)
    return result


def main() -> None:
    """Run the simulation and print one line of JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--real", type=Path, default=Path("../shared/data"), help="folder with the GoEmotions files")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--scores", type=Path, help="scores of another student, instead of training one")
    arguments = parser.parse_args()
    scored = read_scores(arguments.scores) if arguments.scores else train_and_score(read_texts(arguments.real))
    n, attributes = scored.p.shape
    print(f"{n} texts in the pool, {attributes} attributes, {arguments.seeds} seeds", file=sys.stderr)
    line = {
        **compare(scored, *HEADLINE, arguments.seeds),
        "delta": DELTA,
        "seeds": arguments.seeds,
        "attributes": attributes,
        "calibration_texts": n // 3,
        "calibration_positives_min": int((scored.labels == 1).sum(axis=0).min() // 3),
        "others": [
            {"target": target, "teacher": teacher, **compare(scored, target, teacher, arguments.seeds)}
            for target, teacher in OTHERS
        ],
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
