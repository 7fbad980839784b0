"""A golden set as labels that a student can be distilled from and certified on, see `models.distil_rows`."""

from pathlib import Path

import pyarrow as pa

from models.features import upload_text
from models.golden import GoldenSet
from models.golden_labels import labels_of
from models.silver_corpus import write_table

_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("video_id", "text", "attribute", "source")),
        ("label", pa.int8()),
        ("weight", pa.float64()),
        ("language", pa.string()),
    ]
)


def export_golden(golden: GoldenSet, path: Path) -> int:
    """Write a row per video and attribute that the raters decided, Parquet or CSV by the name; return how many.

    `weight` is 1/sampling_prob, not clipped: certificates rest on it.

    Raises:
        ConfigurationError: the file can't be written, or its name ends otherwise.

    """
    rows = [
        {
            "video_id": upload.video_id,
            "text": upload_text(upload),
            "attribute": attribute,
            "source": "golden",
            "label": label,
            "weight": weight,
            "language": upload.language,
        }
        for a, attribute in enumerate(golden.attributes)
        for upload, label, weight in zip(
            golden.uploads, labels_of(golden, attribute).label.tolist(), golden.weight[:, a].tolist(), strict=True
        )
        if label >= 0
    ]
    write_table(path, pa.Table.from_pylist(rows, _SCHEMA))
    return len(rows)
