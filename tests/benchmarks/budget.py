"""A third of the money: does it help to choose whom the LLM is asked about?

`python -m tests.benchmarks.budget --real FOLDER` plays the GoEmotions dev texts as one day of uploads. The default
student scores them; the LLM is simulated by the true labels, of which it gets a share wrong. The budget is a third of
what asking about every uncertain video would cost. It is spent once through the real Budget and Pacing, and some times
at random, each on what the other did not know. Prints one JSON line with macro-F1 over the attributes, and the 95 %
interval of the margin. The weights of the pacing were chosen with `--choose`: on train texts, scored by students that
were fitted without them; dev was not looked at.

Clock and LLM are simulated; ledger, reservations, pacing and student are the real ones.
"""

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from models.annotator import Question
from models.bundle import default_bundle
from models.cascade import decide
from models.distil_bands import hold_out
from models.distil_formats import read_rows
from models.gemini import ApiKey, Gemini
from models.goemotions import LABELS, read_goemotions
from models.llm_budget import Budget
from models.llm_cache import merge
from models.llm_cost import price_of
from models.llm_outcome import Usage
from models.llm_state import Limits, LlmState
from models.student import Student
from schemas.attributes import Catalogue, load_catalogue
from schemas.events import VideoUpload
from streams.review_gain import TEACHER_ERROR, ExpectedGain, Weights

MODEL = "gemini-2.5-flash"
DAY_S = 86_400.0
RANDOM_RUNS = 5
BOOTSTRAP = 1_000
CHOOSING_DAYS, DAY_VIDEOS = 3, 5_400
CANDIDATES = [
    Weights(rarity, missed, error) for rarity in (0.0, 0.5, 1.0) for missed in (1.0, 3.0) for error in (0.0, 0.05)
]
Labels = NDArray[np.bool_]


@dataclass(frozen=True)
class Day:
    """Texts in their order of arrival: true labels [n, A], the student's guesses, and the uncertain ones."""

    truth: Labels
    guess: Labels
    uncertain: Labels
    gains: Sequence[float]
    bounds: Sequence[Usage]
    used: Sequence[Usage]
    said: Labels


class Clock:
    def __init__(self) -> None:
        self.now = 20_000 * DAY_S

    def __call__(self) -> float:
        return self.now


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of goemotions_dev.tsv.gz")
    parser.add_argument("--share", type=float, default=1 / 3)
    parser.add_argument("--choose", action="store_true", help="compare weights on train, out of fold, not on dev")
    options = parser.parse_args()
    split = options.real / f"goemotions_{'train' if options.choose else 'dev'}.tsv.gz"
    if not split.exists():
        sys.exit(f"{split} is missing: give the folder of the GoEmotions files with --real, or REAL= with make")
    run = choose(split, options.share) if options.choose else bench(split, options.share)
    print(json.dumps(asyncio.run(run)))


async def bench(dev: Path, share: float) -> dict[str, float]:
    catalogue = load_catalogue()
    labelled = read_goemotions(dev, LABELS, catalogue)
    order = np.random.default_rng(1).permutation(len(labelled.texts))
    texts = [labelled.texts[i] for i in order]
    student = Student.load(default_bundle(), catalogue)
    probability = (await student.score(texts)).probability
    day = _day(texts, labelled.labels[order], probability, student, catalogue, Weights())
    student.close()
    needed = _needed(day)
    paced, spent = await _play(day, share * needed, lambda _: True, paced=True)
    at_random = [
        await _play(day, share * needed, _coin(random.Random(seed), share), paced=False) for seed in range(RANDOM_RUNS)
    ]
    chance = [f1(day, asked) for asked, _ in at_random]
    result = {
        "items": len(day.gains),
        "uncertain": int(day.uncertain.any(axis=1).sum()),
        "needed_usd": needed,
        "budget_usd": share * needed,
        "spent_usd": spent,
        "spent_random_usd": float(np.mean([usd for _, usd in at_random])),
        "asked": int(paced.sum()),
        "asked_random": float(np.mean([asked.sum() for asked, _ in at_random])),
        "f1_student": f1(day, np.zeros(len(day.gains), np.bool_)),
        "f1_random": float(np.mean(chance)),
        "f1_random_best": max(chance),
        "f1_paced": f1(day, paced),
        "f1_all": f1(day, np.ones(len(day.gains), np.bool_)),
    }
    result["margin"] = result["f1_paced"] - result["f1_random"]
    low, high = _interval(day, paced, [asked for asked, _ in at_random])
    result |= {"margin_low": low, "margin_high": high}
    return {name: round(value, 4) for name, value in result.items()}


async def choose(train: Path, share: float) -> dict[str, float]:
    """Play days of train texts that the student, fitted without them, scored; return the mean F1 by weights."""
    from models.calibration import calibrated, fit_platt, trusted
    from models.nano import fit_nano

    catalogue = load_catalogue()
    rows = hold_out(read_rows("goemotions", [train], catalogue), 0.2, 1).learn  # as the shipped student's
    fitted = fit_nano(rows, 1, lambda: None)
    probability = calibrated(fitted.logits, fit_platt(fitted.logits, rows.q, trusted(rows)))
    student = Student.load(default_bundle(), catalogue)
    order = np.random.default_rng(3).permutation(len(rows.texts))
    found: dict[str, float] = {}
    for weights in CANDIDATES:
        scores: list[float] = []
        for at in range(0, CHOOSING_DAYS * DAY_VIDEOS, DAY_VIDEOS):
            chosen = order[at : at + DAY_VIDEOS]
            texts = [rows.texts[i] for i in chosen]
            day = _day(texts, rows.q[chosen] > 0.5, probability[chosen], student, catalogue, weights)
            asked, _ = await _play(day, share * _needed(day), lambda _: True, paced=True)
            scores.append(f1(day, asked))
        name = f"rarity {weights.rarity:g}, missed {weights.missed:g}, teacher_error {weights.teacher_error:g}"
        found[name] = round(float(np.mean(scores)), 4)
        print(f"{found[name]:.4f}  {name}", file=sys.stderr)
    student.close()
    return found


def _needed(day: Day) -> float:
    price = price_of(MODEL)
    return sum(price.usd(used) for used, open_ in zip(day.used, day.uncertain, strict=True) if open_.any())


def _day(
    texts: Sequence[str],
    truth: Labels,
    probability: NDArray[np.float64],
    student: Student,
    catalogue: Catalogue,
    weights: Weights,
) -> Day:
    expected = ExpectedGain(catalogue, weights)
    gemini = Gemini(catalogue, ApiKey("none"), model=MODEL)
    uncertain, gains = np.zeros(truth.shape, np.bool_), list[float]()
    bounds, used = list[Usage](), list[Usage]()
    for i, text in enumerate(texts):
        scores = decide(probability[i], student.bands, student.ids)
        asked = {name: score for name, score in scores.items() if score.label is None}
        uncertain[i] = [name in asked for name in catalogue.ids]
        gains.append(expected.of(asked) if asked else 0.0)
        if asked:  # the review stage sees no others
            expected.saw([scores])
        upload = VideoUpload(schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=0, title=text[:500])
        bounds.append(gemini.most([Question(upload, tuple(asked))]))
        used.append(Usage(bounds[-1].input_tokens // 4, 20 + 40 * len(asked)))
    wrong = np.random.default_rng(2).random(truth.shape) < TEACHER_ERROR
    decided = np.array([[scores >= 0.5 for scores in row] for row in probability])
    lo = np.array([student.bands[name].lo for name in catalogue.ids])
    hi = np.array([student.bands[name].hi for name in catalogue.ids])
    guess = np.where(uncertain, decided, probability >= hi) & (probability >= lo)
    return Day(truth, guess, uncertain, gains, bounds, used, truth ^ wrong)


def _coin(chance: random.Random, share: float) -> Callable[[int], bool]:
    return lambda _: chance.random() < share


async def _play(day: Day, usd: float, ask: Callable[[int], bool], *, paced: bool) -> tuple[Labels, float]:
    """Return who was asked, and what was spent, when the texts come evenly over a day."""
    clock, asked = Clock(), np.zeros(len(day.gains), np.bool_)
    with TemporaryDirectory() as folder:
        state = LlmState(Path(folder), merge, clock)
        budget = Budget(state, price_of(MODEL), Limits(usd_per_day=usd), clock)
        for i, gained in enumerate(day.gains):
            clock.now += DAY_S / (len(day.gains) + 1)
            if not day.uncertain[i].any() or not ask(i):
                continue
            if paced and not budget.pacing.worth(gained, budget.price.usd(budget.estimate.likely(day.bounds[i]))):
                continue
            reservation = await budget.reserve(day.bounds[i])
            if reservation is not None:
                await budget.settle(reservation, day.used[i], {})
                asked[i] = True
        spent = (await state.spending()).day
        await state.close()
    assert spent <= usd, f"{spent} of {usd}"
    return asked, spent


def f1(day: Day, asked: Labels) -> float:
    """Return macro-F1 when the LLM's answers replace the uncertain guesses of those who were asked."""
    return float(_f1(np.ones((1, len(asked))), day, asked)[0])


def _f1(times: NDArray[np.float64], day: Day, asked: Labels) -> NDArray[np.float64]:
    """Return macro-F1 of each row of `times` [B, n], which says how often each text counts."""
    label = np.where(day.uncertain & asked[:, None], day.said, day.guess)
    hits, said, true = (times @ part.astype(np.float64) for part in (label & day.truth, label, day.truth))
    return (2 * hits / np.maximum(said + true, 1.0)).mean(axis=1)


def _interval(day: Day, paced: Labels, at_random: Sequence[Labels]) -> tuple[float, float]:
    """Return the 95 % interval of the margin by a bootstrap over the texts, paired."""
    n = len(day.gains)
    times = np.random.default_rng(4).multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP).astype(np.float64)
    margins = _f1(times, day, paced) - np.mean([_f1(times, day, asked) for asked in at_random], axis=0)
    low, high = np.quantile(margins, (0.025, 0.975))
    return float(low), float(high)


if __name__ == "__main__":
    main()
