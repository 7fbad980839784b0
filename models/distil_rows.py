"""What a student learns from: texts with labels that may be soft, weighted or missing.

A file of labels, CSV (.gz too) or Parquet, has one row per video and attribute:

    video_id, text         of the video; the same text in each of its rows
    attribute              its id in the catalogue
    q or label             chance that it is present, in [0, 1]; or 1, 0. Both columns may be there, one filled
    source                 golden (people) or silver (an LLM)
    weight                 1 / sampling_prob; may be left out: 1. A silver set has at most 10 there, and no label is
                           learned with more; those of golden labels have to be true, as certificates rest on them
    language               BCP 47; may be left out, and is not read by the students of today

An attribute without a row of a video is not known there. Where a video's attribute has a golden and a silver row, the
golden one is learned, and the pair tells how the LLM errs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from models.goemotions import LabelledTexts
from models.media_rows import MediaRows
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError

Floats = NDArray[np.float32]

REQUIRED = ("video_id", "text", "attribute", "source")
MIN_PAIRS = 20
"""Fewer texts with both labels say too little about how the LLM errs."""


@dataclass(frozen=True)
class Rows:
    """Texts, and per attribute q [n, A], the chance that it is present.

    `weight` [n, A] is 0 where q is not known; `golden` [n, A]: people said so. `videos` are ids; () where there
    are none; `media` is what was seen and heard of them.
    """

    texts: Sequence[str]
    q: Floats
    weight: Floats
    golden: NDArray[np.bool_]
    videos: Sequence[str] = ()
    media: MediaRows | None = None

    def __getitem__(self, index: NDArray[np.intp]) -> "Rows":
        """Return some of the texts."""
        texts = [self.texts[int(i)] for i in index]
        videos = [self.videos[int(i)] for i in index] if self.videos else ()
        media = self.media[index] if self.media else None
        return Rows(texts, self.q[index], self.weight[index], self.golden[index], videos, media)


def rows_of(labelled: LabelledTexts) -> Rows:
    """Return texts that people labelled fully."""
    shape = labelled.labels.shape
    return Rows(
        labelled.texts, labelled.labels.astype(np.float32), np.ones(shape, np.float32), np.ones(shape, np.bool_)
    )


def read_labels(paths: Sequence[Path], catalogue: Catalogue) -> Rows:
    """Read files of golden and silver labels and correct the silver ones for the errors seen beside golden ones.

    Raises:
        ConfigurationError: a file can't be read, or a row is wrong.

    """
    columns = [_read(path) for path in paths]
    table = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    videos, first, video = np.unique(table["video_id"], return_index=True, return_inverse=True)
    texts = table["text"][first]
    other = np.flatnonzero(texts[video] != table["text"])
    if other.size:
        raise ConfigurationError(
            f"video {table['video_id'][other[0]]!r} has two texts, {texts[video[other[0]]][:40]!r} and"
            f" {table['text'][other[0]][:40]!r}; a video has one text"
        )
    numbers = {name: a for a, name in enumerate(catalogue.ids)}
    unknown = sorted(set(table["attribute"]) - set(numbers))
    if unknown:
        raise ConfigurationError(
            f"attributes {', '.join(unknown)} are not in the catalogue ({', '.join(catalogue.ids)}); correct them, or"
            " name another catalogue with VIBESTREAM_CATALOGUE"
        )
    attribute = np.array([numbers[name] for name in table["attribute"]])
    shape = (2, len(videos), len(numbers))
    q, weight, times = (np.zeros(shape, np.float32) for _ in range(3))
    cell = ((table["source"] == "golden").astype(np.intp), video, attribute)
    np.add.at(times, cell, 1)
    q[cell], weight[cell] = table["q"], table["weight"]
    if times.max() > 1:
        golden, v, a = np.argwhere(times > 1)[0]
        raise ConfigurationError(
            f"video {videos[v]!r}, attribute {catalogue.ids[a]!r} has {int(times[golden, v, a])}"
            f" {('silver', 'golden')[golden]} rows; keep one"
        )
    silver, known = correct(q[0], times[0] > 0, q[1], times[1] > 0), times[1] > 0
    return Rows(
        texts=list(texts),
        q=np.where(known, q[1], silver),
        weight=np.where(known, weight[1], weight[0]).astype(np.float32),
        golden=known,
        videos=list(videos),
    )


def correct(silver: Floats, has_silver: NDArray[np.bool_], golden: Floats, has_golden: NDArray[np.bool_]) -> Floats:
    """Return q * PPV + (1 - q) * FOR of the silver labels [n, A].

    The annotator's precision (PPV) and share of missed among its negatives (FOR) are counted, plus one of each kind,
    where both labels are known; an attribute with fewer than `MIN_PAIRS` of those stays as it is.
    """
    both = has_silver & has_golden
    said, right = silver > 0.5, golden > 0.5
    ppv, missed = (((both & part & right).sum(axis=0) + 1) / ((both & part).sum(axis=0) + 2) for part in (said, ~said))
    corrected = silver * ppv + (1 - silver) * missed
    return np.where(both.sum(axis=0) >= MIN_PAIRS, corrected, silver).astype(np.float32)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Return the columns video_id, text, attribute, source, q and weight, checked."""
    try:
        table = parquet.read_table(path) if path.name.endswith(".parquet") else _read_csv(path)
    except (OSError, pa.ArrowException) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing or not {"q", "label"} & set(table.column_names):
        raise ConfigurationError(
            f"{path}: columns {', '.join(table.column_names)}; missing: {', '.join(missing) or 'q (or label)'}"
        )
    if not table.num_rows:
        raise ConfigurationError(f"{path} has no rows; give one per video and attribute")
    found: dict[str, NDArray[Any]] = {}
    for name in REQUIRED:
        found[name] = np.asarray(table[name].cast(pa.string()).to_pylist(), object)
        _check(path, name, found[name], np.array([not value for value in found[name]]), "fill it")
    q, label, weight = (_numbers(path, table, name) for name in ("q", "label", "weight"))
    found["q"] = np.where(np.isnan(q), label, q)
    found["weight"] = np.nan_to_num(weight, nan=1.0)
    _check(path, "q (or label)", found["q"], ~((found["q"] >= 0) & (found["q"] <= 1)), "give one, in [0, 1]")
    _check(path, "label", label, (label != 0) & (label != 1) & ~np.isnan(label), "give 1 or 0")
    _check(path, "weight", found["weight"], ~((found["weight"] > 0) & np.isfinite(found["weight"])), "make it above 0")
    wrong = ~np.isin(found["source"], ["golden", "silver"])
    _check(path, "source", found["source"], wrong, "give golden or silver")
    return found


def _read_csv(path: Path) -> pa.Table:
    text = {name: pa.string() for name in REQUIRED}
    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=text, strings_can_be_null=True),
    )


def _numbers(path: Path, table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column as numbers, NaN where it is empty or not there."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    try:
        column = pc.cast(table[name], pa.float64())
    except pa.ArrowException as error:
        raise ConfigurationError(f"{path}: {name}: {error}; give numbers") from error
    return column.to_numpy().astype(np.float64)


def _check(path: Path, name: str, values: NDArray[Any], wrong: NDArray[np.bool_], remedy: str) -> None:
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ConfigurationError(f"{path} row {i + 1}: {name} is {values[i]}; {remedy}")
