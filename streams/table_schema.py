"""Whether a stored table fits the catalogue, and the columns it gains when the catalogue does."""

from typing import Any

import pyarrow as pa
from lancedb.table import Table

from schemas.errors import ConfigurationError

KEY = "video_id"
_ATTEMPTS = 5  # another opener may add the same columns at the same time


def check_fit(found: pa.Schema, wanted: pa.Schema, where: str) -> None:
    """Check that a table can hold and yield what `wanted` says; more columns, or fewer nullable ones, are no harm.

    Raises:
        ConfigurationError: a column has another type, a required one is missing, or `video_id` is no primary key.

    """
    missing = [
        f"column {f.name} is missing and can't be null" for f in wanted if f.name not in found.names and not f.nullable
    ]
    other = [
        f"column {f.name} is {found.field(f.name).type}, not {f.type}"
        for f in wanted
        if f.name in found.names and found.field(f.name).type != f.type
    ]
    if KEY in found.names and found.field(KEY).metadata != wanted.field(KEY).metadata:
        other.append(f"column {KEY} is not marked as the primary key")
    if missing or other:
        raise ConfigurationError(
            f"{where} does not fit the attribute catalogue and the student: {'; '.join(missing + other)}. Go back to"
            " the catalogue and student that it was made with, or store under a new uri and replay the annotations"
            " topic from its beginning"
        )


def missing_columns(found: pa.Schema, wanted: pa.Schema) -> list[pa.Field]:
    """Return the columns of `wanted` that `found` lacks."""
    return [field for field in wanted if field.name not in found.names]


def add_missing(table: Table, wanted: pa.Schema) -> None:
    """Add the columns that `table` lacks, null in every row; openers may race.

    They are added as Arrow fields: a column added as an SQL expression is not nullable, and then every merge of a
    writer that does not know it fails.
    """
    for attempt in range(_ATTEMPTS):
        table.checkout_latest()  # a schema change on an older version is preempted
        missing = missing_columns(table.schema, wanted)
        if not missing:
            return
        try:
            table.add_columns(missing)
        except (OSError, RuntimeError, ValueError):
            if attempt == _ATTEMPTS - 1:
                raise


def with_nulls(batch: Any, schema: pa.Schema) -> Any:
    """Return `batch`, a pyarrow Table or RecordBatch, with a null column for every one of `schema` that it lacks."""
    for field in missing_columns(batch.schema, schema):
        batch = batch.append_column(field, pa.nulls(batch.num_rows, field.type))
    return batch
