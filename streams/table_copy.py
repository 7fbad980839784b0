"""Copies of the attribute table: one consistent version, every column, into another database."""

from collections.abc import Callable, Iterator, Mapping

import lance
import pyarrow as pa

from schemas.errors import ConfigurationError, StoreUnavailable
from streams.attribute_table import TABLE, AttributeTable


def copy_table(
    source: AttributeTable,
    target_uri: str,
    target: AttributeTable | None,
    advance: Callable[[int], None],
    *,
    storage_options: Mapping[str, str] | None = None,
) -> int:
    """Copy the newest version of `source` into the database at `target_uri`, count what arrived, and return it.

    `target` is the table that is there already, which must be empty and unused meanwhile. A copy that breaks off
    leaves files without a version, never a table with some of the rows. `advance` is told the rows of each batch;
    `storage_options` are the target's.

    Raises:
        ConfigurationError: the target holds rows.
        StoreUnavailable: either can't be read or written, or other rows arrived than were sent.

    """
    if target is not None and (held := target.rows().rows):
        raise ConfigurationError(
            f"the table at {target_uri} holds {held} rows; name an empty place, or delete it first"
        )
    sent = 0

    def batches(version: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        nonlocal sent
        for batch in version:
            yield batch
            sent += batch.num_rows
            advance(batch.num_rows)

    with source.kept() as (schema, version):
        try:
            written = lance.write_dataset(
                pa.RecordBatchReader.from_batches(schema, batches(version)),
                f"{target_uri.rstrip('/')}/{TABLE}.lance",
                mode="create" if target is None else "overwrite",
                storage_options=dict(storage_options) if storage_options else None,
            )
            arrived = written.count_rows()
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreUnavailable(
                f"can't copy the attribute table to {target_uri}: {error}. Check that the address is writable and has"
                " free space, delete what was written there, and start again"
            ) from error
    if arrived != sent:
        raise StoreUnavailable(f"{arrived} rows at {target_uri}, but {sent} were sent; delete them and start again")
    return arrived
