"""Silver labels as `vibestream distil` reads them, and what could not be labelled, with the reason."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from models.answers_file import read_answers_file
from models.evaluation import Truth
from models.silver_corpus import Sampled, write_table
from models.silver_journal import Entry
from schemas.attributes import Catalogue

LABELS, FAILURES = "labels.parquet", "failures.csv"
MAX_WEIGHT = 10.0
UNCLEAR = "the annotator found it unclear"


def read_answers(path: Path, sample: Sequence[Sampled], catalogue: Catalogue) -> dict[str, Entry]:
    """Read a CSV of answers (`models.answers_file`), joined by id; an abstention is unclear, a lack is a failure.

    Raises:
        ConfigurationError: the file can't be read, a row is wrong or there twice, or no video of the sample is in it.

    """
    shape = len(sample), len(catalogue.ids)
    videos = [one.video.video_id for one in sample]
    truth = Truth("the sample", videos, catalogue.ids, np.zeros(shape, np.int8), np.ones(shape))
    labels: list[list[int]] = read_answers_file(path, truth).label.tolist()
    said = {1: True, 0: False, -1: None}
    return {
        video: Entry(video, {name: said[label] for name, label in zip(catalogue.ids, row, strict=True)})
        for video, row in zip(videos, labels, strict=True)
    }


class Counts(Struct, frozen=True):
    """Cells (a video and an attribute each): they add up to videos times attributes."""

    videos: int
    labelled: int
    failed: int
    left: int


def export(folder: Path, sample: Sequence[Sampled], catalogue: Catalogue, entries: Mapping[str, Entry]) -> Counts:
    """Write labels.parquet, for `vibestream distil`, and failures.csv, both joined by video id; count both.

    The weight is 1 / sampling_prob over its mean in the sample, at most MAX_WEIGHT: so a sparse sample weighs as much
    per label as a dense one, and what is cut off does not depend on the size of the corpus.
    """
    inverse = np.array([1 / one.sampling_prob for one in sample])
    weights = np.minimum(inverse / inverse.mean(), MAX_WEIGHT) if len(sample) else inverse
    labels: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    left = 0
    for one, weight in zip(sample, weights.tolist(), strict=True):
        found = entries.get(one.video.video_id)
        if found is None:
            left += len(catalogue.ids)
            continue
        for name in catalogue.ids:
            label = found.verdicts.get(name)
            if label is None:
                reason = found.declined or UNCLEAR
                failures.append({"video_id": one.video.video_id, "attribute": name, "reason": reason})
            else:
                labels.append(
                    {
                        "video_id": one.video.video_id,
                        "text": one.video.text,
                        "attribute": name,
                        "label": int(label),
                        "source": "silver",
                        "weight": weight,
                        "sampling_prob": one.sampling_prob,
                        "stratum": one.stratum,
                        "language": one.video.language,
                    }
                )
    write_table(folder / LABELS, pa.Table.from_pylist(labels, _LABEL_SCHEMA))
    write_table(folder / FAILURES, pa.Table.from_pylist(failures, _FAILURE_SCHEMA))
    return Counts(len(sample), len(labels), len(failures), left)


_TEXTS = ("video_id", "text", "attribute")
_LABEL_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("label", pa.int8()),
        ("source", pa.string()),
        ("weight", pa.float32()),
        ("sampling_prob", pa.float64()),
        ("stratum", pa.string()),
        ("language", pa.string()),
    ]
)
_FAILURE_SCHEMA = pa.schema([(name, pa.string()) for name in ("video_id", "attribute", "reason")])
