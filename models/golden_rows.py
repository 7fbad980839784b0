"""Reads what raters said, from CSV or Parquet, and refuses what can't be meant."""

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError
from schemas.events import VideoUpload

REQUIRED = ("video", "attribute", "rater", "label", "sampling_prob")
TEXTS = ("text", "title", "description", "hashtags", "transcript")
ADJUDICATOR = "adjudicated"
"""The rater whose label is the last word on an item; it is not counted among the raters."""

_SHOWN = 10
_TITLE = 500
_LABELS = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}
_UNSURE = ("-1", "unsure", "unclear")
_FLAGS = _LABELS | {"": False}


class Rating(Struct, frozen=True):
    """One rater on one attribute of one video; `label` is None where the rater was unsure."""

    upload: VideoUpload
    attribute: str
    rater: str
    label: bool | None
    stratum: str
    sampling_prob: float

    @property
    def video(self) -> str:
        """Which video."""
        return self.upload.video_id


def read_ratings(paths: Sequence[Path], catalogue: Catalogue) -> list[Rating]:
    """Read all rows of all files, checked one by one and against each other.

    Raises:
        ConfigurationError: a file can't be read, a column is missing, or rows are wrong: it names each (the first
            few), its value and what to do.

    """
    ratings: list[Rating] = []
    faults: list[str] = []
    checks = _Consistency()
    for path in paths:
        for number, row in _rows(path):
            try:
                rating = _rating(row, catalogue)
                checks.add(rating, f"{path.name} row {number}")
                ratings.append(rating)
            except ValueError as error:
                faults.append(f"{path} row {number}: {error}")
    if faults:
        more = f"\n... and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ConfigurationError("\n".join(faults[:_SHOWN]) + more)
    if not ratings:
        raise ConfigurationError(f"{', '.join(map(str, paths))}: no rows; give one row per video, attribute and rater")
    return ratings


class _Consistency:
    """What rows must not contradict; remembers where it saw each first."""

    def __init__(self) -> None:
        self._uploads: dict[str, tuple[VideoUpload, str]] = {}
        self._items: dict[tuple[str, str], tuple[str, float, str]] = {}
        self._seen: dict[tuple[str, str, str], str] = {}

    def add(self, rating: Rating, where: str) -> None:
        upload, first = self._uploads.setdefault(rating.video, (rating.upload, where))
        if upload != rating.upload:
            raise ValueError(f"video {rating.video!r} has another text than in {first}; a video has one text")
        item = (rating.video, rating.attribute)
        stratum, prob, first = self._items.setdefault(item, (rating.stratum, rating.sampling_prob, where))
        if (stratum, prob) != (rating.stratum, rating.sampling_prob):
            raise ValueError(
                f"stratum {rating.stratum!r} and sampling_prob {rating.sampling_prob} differ from {stratum!r} and"
                f" {prob} in {first}; they belong to video and attribute, whoever rates"
            )
        first = self._seen.setdefault((*item, rating.rater), where)
        if first != where:
            raise ValueError(
                f"rater {rating.rater!r} rated {rating.attribute!r} of video {rating.video!r} already in {first};"
                " keep one of the rows"
            )


def _rating(row: Mapping[str, Any], catalogue: Catalogue) -> Rating:
    attribute = _word(row, "attribute")
    if attribute not in catalogue.ids:
        raise ValueError(
            f"attribute {attribute!r} is not in the catalogue ({', '.join(catalogue.ids)}); correct it, or name"
            " another catalogue with VIBESTREAM_CATALOGUE"
        )
    return Rating(
        upload=_upload(row),
        attribute=attribute,
        rater=_word(row, "rater"),
        label=_label(row),
        stratum=_text(row, "stratum"),
        sampling_prob=_probability(_text(row, "sampling_prob")),
    )


def _label(row: Mapping[str, Any]) -> bool | None:
    text, flag = _text(row, "label").lower(), _text(row, "unsure").lower()
    if flag not in _FLAGS:
        raise ValueError(f"unsure {flag!r} is neither 0 nor 1")
    if _FLAGS[flag] or text in _UNSURE:
        return None
    if text not in _LABELS:
        raise ValueError(f"label {text!r}: give 1, 0, or -1 where the rater was unsure")
    return _LABELS[text]


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ValueError(f"sampling_prob {text!r} is not in (0, 1]; it is 1 where everything was sampled")
    return value


def _upload(row: Mapping[str, Any]) -> VideoUpload:
    texts: dict[str, Any] = {name: _text(row, name) for name in TEXTS}
    text = texts.pop("text")
    if text and any(texts.values()):
        raise ValueError(f"text and {', '.join(name for name in texts if texts[name])} are both given; keep one way")
    if text:  # which field it came from is not known; the student joins them all
        texts["title" if len(text) <= _TITLE else "transcript"] = text
    if not any(texts.values()):
        raise ValueError("there is no text; annotators are evaluated on it, so fill text (or title, ...)")
    fields = {"schema_version": 1, "video_id": _word(row, "video"), "creator_id": "golden", "uploaded_at_ms": 0}
    try:
        return msgspec.convert({**fields, **texts, "hashtags": texts["hashtags"].split()}, VideoUpload)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}; shorten it as your uploads are shortened") from error


def _word(row: Mapping[str, Any], column: str) -> str:
    text = _text(row, column)
    if not 1 <= len(text) <= 200:
        raise ValueError(f"{column} {text[:40]!r} has {len(text)} characters; give it 1 to 200")
    return text


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    match value:
        case None:
            return ""
        case bool():
            return str(int(value))
        case float() if value.is_integer():
            return str(int(value))
        case list():
            return " ".join(map(str, value))
        case _:
            return str(value).strip()


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield number and content of each row; in CSV the number is that of the line."""
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".csv"):
            opened = gzip.open(path, "rt", encoding="utf-8-sig", newline="") if path.suffix == ".gz" else None
            with opened or path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                _check_columns(path, reader.fieldnames or ())
                for row in reader:
                    yield reader.line_num, row
        elif name.endswith(".parquet"):
            table = pq.ParquetFile(path)
            _check_columns(path, table.schema_arrow.names)
            number = 0
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        else:
            raise ConfigurationError(f"{path}: can't tell the format; name it .csv, .csv.gz or .parquet")
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _check_columns(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in names]
    if missing or not set(TEXTS) & set(names):
        raise ConfigurationError(
            f"{path}: columns {', '.join(names)}; missing: {', '.join(missing) or 'text (or title, ...)'}. Give"
            f" {', '.join(REQUIRED)} and text; unsure and stratum may be left out"
        )
