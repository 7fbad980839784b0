"""Copies of the attribute store: one consistent version of each table, every column, into another database."""

from collections.abc import Callable, Iterator

import lance
import pyarrow as pa

from schemas.errors import ConfigurationError, StoreUnavailable
from streams.attribute_store import AttributeStore
from streams.attribute_table import AttributeTable
from streams.database import Database
from streams.store_calls import StoreCalls


def copy_store(
    source: AttributeStore, to: Database, target: AttributeStore, advance: Callable[[int], None] = lambda _: None
) -> int:
    """Copy every table of `source` that `target`, the store of as many shards in `to`, does not hold rows of yet.

    Returns the rows that arrived. The target must be unused meanwhile. A table whose copy breaks off is left without a
    version, never with some of its rows. `advance` is told the rows of each batch.

    Raises:
        ConfigurationError: every table of the target holds rows.
        StoreUnavailable: either can't be read or written, or other rows arrived than were sent.

    """
    held = {shard: rows for shard, table in target.tables.items() if (rows := table.rows().rows)}
    due = {shard: table for shard, table in source.tables.items() if shard not in held}
    if not due:
        raise ConfigurationError(
            f"the store at {to.uri} holds {sum(held.values())} rows; name an empty place, or delete it first"
        )
    return sum(_copy(table, to, exists=shard in target.tables, advance=advance) for shard, table in due.items())


def _copy(source: AttributeTable, to: Database, *, exists: bool, advance: Callable[[int], None]) -> int:
    sent = 0

    def batches(version: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        nonlocal sent
        for batch in version:
            yield batch
            sent += batch.num_rows
            advance(batch.num_rows)

    with source.kept() as (schema, version):
        rows = pa.RecordBatchReader.from_batches(schema, batches(version))

        def write() -> int:
            return lance.write_dataset(
                rows,
                f"{to.uri.rstrip('/')}/{source.name}.lance",
                mode="overwrite" if exists else "create",
                storage_options=to.storage_options,
            ).count_rows()

        # As long as batches go out it may take its time.
        arrived = StoreCalls(to.uri, to.deadline_s).run("copy", write, lambda: sent)
    if arrived != sent:
        raise StoreUnavailable(
            f"{arrived} rows at {to.uri}, but {sent} were sent; delete {source.name}.lance there and start again"
        )
    return arrived
