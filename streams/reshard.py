"""Moving the rows of a store into another number of shards."""

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError, StoreUnavailable
from streams.attribute_store import AttributeStore, other_layouts
from streams.attribute_table import AttributeTable
from streams.database import Database
from streams.table_schema import KEY

_ROWS_PER_MERGE = 50_000  # each merge scans the keys that have no index yet


def reshard(
    database: Database, catalogue: Catalogue, dim: int, shards: int, advance: Callable[[int], None] = lambda _: None
) -> int:
    """Move all rows into `shards` tables and delete the tables that held them; return the rows moved.

    The rows are upserted by seq, and nothing is deleted before all videos have arrived: broken off at any moment, it
    goes on where it is started again. No store worker may run. `advance` is told the rows of each merge.

    Raises:
        ConfigurationError: a store worker wrote meanwhile; as AttributeTable.open.
        StoreUnavailable: the store can't be read or written.

    """
    names = [name for names in other_layouts(database, shards).values() for name in names]
    found = (AttributeTable.open_existing(database, catalogue, dim, name) for name in names)
    sources = [table for table in found if table is not None]
    target = AttributeStore.open_unchecked(database, catalogue, dim, shards)
    versions, moved = [source.version() for source in sources], 0
    for source in sources:
        with source.kept() as (schema, batches):
            for rows in _merges(schema, batches):
                target.upsert(rows)
                moved += rows.num_rows
                advance(rows.num_rows)
        for table in target.tables.values():
            table.compact()
    if [source.version() for source in sources] != versions:
        raise ConfigurationError(
            f"a store worker wrote to the store at {database.uri} while its rows were moved; nothing was deleted. Stop"
            " the store workers and run the command again"
        )
    arrived = pa.chunked_array(_keys(target.read([KEY])), pa.string()).unique()
    for source in sources:
        absent = len(pa.chunked_array([arrived, *_keys(source.read([KEY]))], pa.string()).unique()) - len(arrived)
        if absent:
            raise StoreUnavailable(f"{absent} videos of table {source.name!r} did not arrive; run the command again")
    for name in names:
        database.drop(name)
    return moved


def _merges(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.num_rows for each in held) >= _ROWS_PER_MERGE:
            yield pa.Table.from_batches(held, schema)
            held = []
    if held:
        yield pa.Table.from_batches(held, schema)


def _keys(batches: Iterable[pa.RecordBatch]) -> list[pa.Array]:
    return [batch.column(KEY) for batch in batches]
