"""The videos that a silver set is sampled from, and the sample as a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, json, parquet

from models.features import MAX_CHARACTERS, upload_text
from schemas.errors import ConfigurationError
from schemas.events import UNKNOWN_CREATOR, VideoUpload

_FIELDS = ("title", "description", "hashtags", "transcript")
_TITLE = 300
"""Longer texts than the LLM reads of a title are handed to it as a description."""
_JSON_BLOCK = 16 * 2**20


@dataclass(frozen=True)
class Video:
    """A video and its one text, as student and LLM read it."""

    video_id: str
    text: str
    language: str | None = None

    @property
    def upload(self) -> VideoUpload:
        """The video as an LLM is asked about it."""
        long = len(self.text) > _TITLE
        return VideoUpload(
            schema_version=1,
            video_id=self.video_id,
            creator_id=UNKNOWN_CREATOR,
            uploaded_at_ms=0,
            title="" if long else self.text,
            description=self.text if long else "",
            language=self.language,
        )


@dataclass(frozen=True)
class Sampled:
    """A video of a sample, the stratum that it was drawn for, and the chance [0, 1] that it had of being drawn."""

    video: Video
    stratum: str
    sampling_prob: float


def read_corpus(paths: Sequence[Path]) -> list[Video]:
    """Read the videos of Parquet, CSV or JSONL files (.gz too); those without any text are left out.

    Raises:
        ConfigurationError: a file can't be read or lacks columns, or a video has no id or is there twice.

    """
    videos: dict[str, Video] = {}
    for path in paths:
        table = _read(path)
        columns = set(table.column_names)
        if "video_id" not in columns or not columns & {"text", *_FIELDS}:
            raise ConfigurationError(
                f"{path}: columns {', '.join(table.column_names)}; give video_id, and text or some of"
                f" {', '.join(_FIELDS)}"
            )
        kept = [name for name in ("video_id", "text", *_FIELDS, "language") if name in columns]
        for number, row in enumerate(table.select(kept).to_pylist(), 1):
            video = _video(row, f"{path} row {number}")
            if video.video_id in videos:
                raise ConfigurationError(f"{path} row {number}: video {video.video_id!r} is there twice; keep one")
            videos[video.video_id] = video
    return [video for video in videos.values() if video.text]


def write_sample(path: Path, sample: Sequence[Sampled]) -> None:
    """Write a sample to Parquet or CSV.

    Raises:
        ConfigurationError: the file can't be written, or its name ends otherwise.

    """
    table = pa.table(
        {
            "video_id": [one.video.video_id for one in sample],
            "text": [one.video.text for one in sample],
            "language": pa.array([one.video.language for one in sample], pa.string()),
            "stratum": [one.stratum for one in sample],
            "sampling_prob": [one.sampling_prob for one in sample],
        }
    )
    write_table(path, table)


def read_sample(path: Path) -> list[Sampled]:
    """Read what `write_sample` wrote, or any corpus with a column sampling_prob.

    Raises:
        ConfigurationError: as `read_corpus`, or a sampling_prob is missing or not in (0, 1].

    """
    videos = {video.video_id: video for video in read_corpus([path])}
    table = _read(path)
    if "sampling_prob" not in table.column_names:
        raise ConfigurationError(
            f"{path} has no column sampling_prob; make it with `vibestream silver sample`, or add it: 1 where the file"
            " is all there is"
        )
    strata = table["stratum"].to_pylist() if "stratum" in table.column_names else ["given"] * table.num_rows
    sample: list[Sampled] = []
    for number, (video_id, stratum, probability) in enumerate(
        zip(table["video_id"].cast(pa.string()).to_pylist(), strata, table["sampling_prob"].to_pylist(), strict=True), 1
    ):
        if not isinstance(probability, int | float) or not 0 < probability <= 1:
            raise ConfigurationError(f"{path} row {number}: sampling_prob is {probability}; give a chance in (0, 1]")
        if video_id in videos:
            sample.append(Sampled(videos[video_id], str(stratum), float(probability)))
    return sample


def write_table(path: Path, table: pa.Table) -> None:
    """Write Parquet or CSV, by the name, whole or not at all.

    Raises:
        ConfigurationError: the file can't be written, or its name ends otherwise.

    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(".parquet"):
            parquet.write_table(table, draft)
        elif path.name.endswith(".csv"):
            csv.write_csv(table, draft)
        else:
            raise ConfigurationError(f"{path}: can't tell the format; name it .parquet or .csv")
        draft.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error}; choose a file that can be written") from error


def _video(row: Mapping[str, Any], where: str) -> Video:
    video_id = row["video_id"]
    if video_id is None or not str(video_id).strip():
        raise ConfigurationError(f"{where} has no video_id; fill it")
    text = row.get("text")
    if text is None:
        hashtags = row.get("hashtags") or ()
        upload = VideoUpload(
            schema_version=1,
            video_id=str(video_id),
            creator_id=UNKNOWN_CREATOR,
            uploaded_at_ms=0,
            title=row.get("title") or "",
            description=row.get("description") or "",
            hashtags=tuple(hashtags.split() if isinstance(hashtags, str) else hashtags),
            transcript=row.get("transcript") or "",
        )
        text = upload_text(upload)
    return Video(str(video_id), str(text)[:MAX_CHARACTERS].strip(), row.get("language") or None)


def _read(path: Path) -> pa.Table:
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            return parquet.read_table(path)
        if name.endswith(".csv"):
            texts = {name: pa.string() for name in ("video_id", "text", *_FIELDS, "language", "stratum")}
            return csv.read_csv(
                path,
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(column_types=texts),
            )
        if name.endswith((".jsonl", ".ndjson", ".json")):
            return json.read_json(path, read_options=json.ReadOptions(block_size=_JSON_BLOCK))
    except (OSError, pa.ArrowException) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    raise ConfigurationError(f"{path}: can't tell the format; name it .parquet, .csv or .jsonl, with .gz if compressed")
