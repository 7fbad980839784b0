"""A golden set: what raters said about videos, in a folder, a third of it frozen as the release test.

golden.json            what it is: attributes with versions, checksums, where it came from
dev.parquet            two thirds: prompts and thresholds are chosen on it
release.parquet        one third: read only when a release is judged
release-reads.jsonl    a line for each time that was
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct
from numpy.typing import NDArray

from models.agreement import Votes
from models.golden_rows import ADJUDICATOR, Rating
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError
from schemas.events import VideoUpload

Split = Literal["dev", "release"]
SPLITS: tuple[Split, ...] = ("dev", "release")
MANIFEST, READS = "golden.json", "release-reads.jsonl"


class SplitSummary(Struct, frozen=True):
    """What a split's file holds."""

    sha256: str
    videos: int
    ratings: int


class GoldenManifest(Struct, frozen=True):
    """What a golden set is; `attributes` are ids and the versions of the definitions that were rated."""

    created: str
    sources: dict[str, str]
    attributes: dict[str, int]
    splits: dict[Split, SplitSummary]
    raters: int
    strata: dict[str, int]


class ReleaseRead(Struct, frozen=True):
    """Somebody looked at the release test: when, and to judge what."""

    at: str
    purpose: str


@dataclass(frozen=True)
class GoldenSet:
    """One split in memory. [n, A] arrays have a row per video and a column per attribute.

    `votes` holds the raters' votes per attribute, items being videos. `asked` is where anybody was asked; `unsure`
    counts raters who could not say; `adjudicated` is 1, 0, or -1 where nobody had the last word; `weight` is
    1/sampling_prob, 0 where nobody was asked.
    """

    split: Split
    attributes: Mapping[str, int]
    uploads: Sequence[VideoUpload]
    raters: Sequence[str]
    votes: Mapping[str, Votes]
    asked: NDArray[np.bool_]
    unsure: NDArray[np.int64]
    adjudicated: NDArray[np.int8]
    weight: NDArray[np.float64]


def split_of(video: str) -> Split:
    """Return where a video belongs, now and in every later import: its id alone decides."""
    digest = sha256(b"golden release 1\0" + video.encode()).digest()
    return "release" if int.from_bytes(digest[:8]) * 3 < 2**64 else "dev"


def write_golden(
    folder: Path, ratings: Sequence[Rating], catalogue: Catalogue, sources: Sequence[Path]
) -> GoldenManifest:
    """Write a new golden set.

    Raises:
        ConfigurationError: `folder` holds one already, or can't be written.

    """
    if (folder / MANIFEST).exists():
        raise ConfigurationError(f"{folder} holds a golden set already, and that is frozen; import to a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        splits: dict[Split, SplitSummary] = {split: _write_split(folder, split, ratings) for split in SPLITS}
        rated = {rating.attribute for rating in ratings}
        items = {(rating.video, rating.attribute): rating.stratum for rating in ratings}
        strata = list(items.values())
        manifest = GoldenManifest(
            created=_now(),
            sources={path.name: sha256(path.read_bytes()).hexdigest() for path in sources},
            attributes={name: catalogue[name].version for name in catalogue.ids if name in rated},
            splits=splits,
            raters=len({rating.rater for rating in ratings} - {ADJUDICATOR}),
            strata={stratum: strata.count(stratum) for stratum in sorted(set(strata))},
        )
        (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    except OSError as error:
        raise ConfigurationError(f"{folder}: {error.strerror}; choose a folder that can be written") from error
    return manifest


def read_manifest(folder: Path) -> GoldenManifest:
    """Read what a golden set says about itself.

    Raises:
        ConfigurationError: there is none, or it is malformed.

    """
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=GoldenManifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError(
            f"{folder}: no golden set ({error}); make one with `vibestream golden import FILE --out {folder}`"
        ) from error


def read_golden(folder: Path, *, release_for: str | None = None) -> GoldenSet:
    """Read the dev split; or the release split, if `release_for` says what for, which is written down first.

    Raises:
        ConfigurationError: there is no golden set, a file is not what was imported, or the reading can't be recorded.

    """
    manifest = read_manifest(folder)
    split: Split = "dev" if release_for is None else "release"
    path = folder / f"{split}.parquet"
    try:
        content = path.read_bytes()
        if release_for is not None:
            line = msgspec.json.encode(ReleaseRead(_now(), release_for)) + b"\n"
            with (folder / READS).open("ab") as reads:
                reads.write(line)
    except OSError as error:
        raise ConfigurationError(f"{folder}: {error}; a reading of the release test must be recorded") from error
    if sha256(content).hexdigest() != manifest.splits[split].sha256:
        raise ConfigurationError(f"{path} is not what was imported; import the ratings again, to a new folder")
    return _golden_set(split, manifest, pq.read_table(pa.BufferReader(content)).to_pylist())


def release_reads(folder: Path) -> list[ReleaseRead]:
    """Return who read the release test and when, oldest first.

    Raises:
        ConfigurationError: the record can't be read.

    """
    path = folder / READS
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [msgspec.json.decode(line, type=ReleaseRead) for line in lines]
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError(f"{path}: {error}; restore the record of release readings") from error


def check_versions(rated: Mapping[str, int], versions: Mapping[str, int], whose: str) -> None:
    """Refuse to judge an attribute by the ratings of another definition; `versions` are those of `whose`.

    Raises:
        ConfigurationError: an attribute was rated that `whose` lacks or has in another version.

    """
    wrong = [
        f"{name} version {version} ({whose}: {versions.get(name, 'none')})"
        for name, version in rated.items()
        if versions.get(name) != version
    ]
    if wrong:
        raise ConfigurationError(
            f"the golden set was rated for {', '.join(wrong)}; rate it again for these definitions, or evaluate others"
            " with --attributes"
        )


def _write_split(folder: Path, split: Split, ratings: Sequence[Rating]) -> SplitSummary:
    own = sorted(
        (rating for rating in ratings if split_of(rating.video) == split),
        key=lambda rating: (rating.video, rating.attribute, rating.rater),
    )
    rows = [{**msgspec.to_builtins(rating), "upload": msgspec.json.encode(rating.upload)} for rating in own]
    path = folder / f"{split}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), path, compression="zstd")
    return SplitSummary(sha256(path.read_bytes()).hexdigest(), len({rating.video for rating in own}), len(own))


_SCHEMA = pa.schema(
    [
        ("upload", pa.binary()),
        ("attribute", pa.string()),
        ("rater", pa.string()),
        ("label", pa.bool_()),
        ("stratum", pa.string()),
        ("sampling_prob", pa.float64()),
    ]
)


def _golden_set(split: Split, manifest: GoldenManifest, rows: Sequence[Mapping[str, Any]]) -> GoldenSet:
    ids = tuple(manifest.attributes)
    encoded = {row["upload"]: i for i, row in enumerate({row["upload"]: row for row in rows}.values())}
    raters = sorted({row["rater"] for row in rows} - {ADJUDICATOR})
    rater_index = {rater: i for i, rater in enumerate(raters)}
    shape = (len(encoded), len(ids))
    asked, unsure, weight = np.zeros(shape, np.bool_), np.zeros(shape, np.int64), np.zeros(shape)
    adjudicated = np.full(shape, -1, np.int8)
    votes: dict[str, list[tuple[int, int, bool]]] = {name: [] for name in ids}
    for row in rows:
        cell = encoded[row["upload"]], ids.index(row["attribute"])
        asked[cell], weight[cell] = True, 1 / row["sampling_prob"]
        if row["label"] is None:
            unsure[cell] += row["rater"] != ADJUDICATOR
        elif row["rater"] == ADJUDICATOR:
            adjudicated[cell] = row["label"]
        else:
            votes[row["attribute"]].append((cell[0], rater_index[row["rater"]], row["label"]))
    return GoldenSet(
        split=split,
        attributes=dict(manifest.attributes),
        uploads=[msgspec.json.decode(upload, type=VideoUpload) for upload in encoded],
        raters=raters,
        votes={name: _votes(found, shape[0], len(raters)) for name, found in votes.items()},
        asked=asked,
        unsure=unsure,
        adjudicated=adjudicated,
        weight=weight,
    )


def _votes(found: Sequence[tuple[int, int, bool]], items: int, raters: int) -> Votes:
    table = np.array(found, np.intp).reshape(-1, 3)
    return Votes(table[:, 0], table[:, 1], table[:, 2].astype(np.bool_), items, raters)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
