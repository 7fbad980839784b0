"""Answers of any annotator, in a CSV file: video, attribute, label, and p, latency_ms, usd and annotator where known.

`label` is 1, 0, or -1 for an abstention; `latency_ms` and `usd` are the video's, whichever of its rows they stand in.
`annotator` is an LLM with its prompt, as JSON, the same in every row.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from models.evaluation import Answers, Effort, Truth
from schemas.annotation import AnnotatorVersion
from schemas.errors import ConfigurationError

REQUIRED = ("video", "attribute", "label")
_LABELS = {"1": 1, "0": 0, "-1": -1}


def read_answers_file(path: Path, truth: Truth) -> Answers:
    """Read the answers to what `truth` knows; where the file has none, the annotator abstained. Other rows are ignored.

    Raises:
        ConfigurationError: the file can't be read, a row is malformed or there twice, or nothing in it is about the
            videos of `truth`.

    """
    videos = {video: i for i, video in enumerate(truth.videos)}
    attributes = {name: a for a, name in enumerate(truth.attributes)}
    label = np.full(truth.label.shape, -1, np.int8)
    probability = np.full(truth.label.shape, np.nan)
    seen = np.zeros(truth.label.shape, np.bool_)
    annotators: set[str] = set()
    latencies: dict[int, float] = {}
    usd: dict[int, float] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigurationError(f"{path} lacks the columns {', '.join(missing)}; give {', '.join(REQUIRED)}")
            for row in reader:
                where = f"{path} row {reader.line_num}"
                answer, p = _answer(row, where), _number(row, "p", where, most=1.0)
                i, a = videos.get(row["video"].strip(), -1), attributes.get(row["attribute"].strip(), -1)
                if i < 0 or a < 0:
                    continue
                if seen[i, a]:
                    raise ConfigurationError(f"{where}: {row['video']}, {row['attribute']} is there twice; keep one")
                seen[i, a], label[i, a] = True, answer
                probability[i, a] = np.nan if p is None else p
                annotators.add((row.get("annotator") or "").strip())
                for name, values in (("latency_ms", latencies), ("usd", usd)):
                    value = _number(row, name, where)
                    if value is not None:
                        values[i] = value
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    if not (seen & (truth.label >= 0)).any():
        raise ConfigurationError(
            f"{path} answers nothing that {truth.source} asks; its videos are {', '.join(truth.videos[:3])}, ..."
        )
    if len(annotators) > 1:
        raise ConfigurationError(f"{path} mixes annotators: {', '.join(sorted(annotators))}; give one file for each")
    effort = Effort(
        videos=int(seen.any(axis=1).sum()),
        latency_p95_ms=round(float(np.quantile(list(latencies.values()), 0.95)), 3) if latencies else None,
        usd_per_1000=round(1000 * sum(usd.values()) / len(usd), 4) if usd else None,
    )
    return Answers(path.stem, label, probability, effort, _annotator(annotators.pop(), path))


def write_answers_file(path: Path, truth: Truth, answers: Answers) -> None:
    """Write the answers to what `truth` knows, so that another version can be compared with them later.

    Raises:
        ConfigurationError: the file can't be written.

    """
    p95, cost = answers.effort.latency_p95_ms, answers.effort.usd_per_1000
    annotator = msgspec.json.encode(answers.annotator).decode() if answers.annotator else ""
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*REQUIRED, "p", "latency_ms", "usd", "annotator"])
            for i, a in zip(*np.nonzero(truth.label >= 0), strict=True):
                p = answers.probability[i, a]
                writer.writerow(
                    [
                        truth.videos[i],
                        truth.attributes[a],
                        int(answers.label[i, a]),
                        "" if np.isnan(p) else f"{p:.6g}",
                        "" if p95 is None else p95,
                        "" if cost is None else cost / 1000,
                        annotator,
                    ]
                )
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; choose a file that can be written") from error


def _annotator(text: str, path: Path) -> AnnotatorVersion | None:
    try:
        return msgspec.json.decode(text, type=AnnotatorVersion) if text else None
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"{path}: annotator {text!r}: {error}; leave the column empty") from error


def _answer(row: Mapping[str, str | None], where: str) -> int:
    text = (row["label"] or "").strip()
    if text not in _LABELS:
        raise ConfigurationError(f"{where}: label {text!r}; give 1, 0, or -1 for an abstention")
    return _LABELS[text]


def _number(row: Mapping[str, str | None], name: str, where: str, most: float = float("inf")) -> float | None:
    text = (row.get(name) or "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise ConfigurationError(f"{where}: {name} {text!r} is not in [0, {most:g}]; correct it or leave it empty")
    return value
