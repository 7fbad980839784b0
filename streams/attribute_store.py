"""All attributes, spread over shards: one table each, one writer each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa

from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError
from streams.attribute_table import AttributeTable, Rows, count_rows
from streams.database import Database
from streams.shards import shard_of, shards_of_table, table_names
from streams.table_schema import KEY


class AttributeStore:
    """The tables of a database that hold the attributes, by shard. Synchronous; use it from one thread.

    A store of one shard is one table of the name "attributes". A video is in the shard that its id says and in no
    other, so per video all that AttributeTable promises holds here.
    """

    def __init__(self, tables: Mapping[int, AttributeTable], shards: int, catalogue: Catalogue, dim: int) -> None:
        """Take over `tables`; `open` and `open_existing` find them."""
        self.tables = tables
        self.shards = shards
        self.catalogue = catalogue
        self.dim = dim

    @classmethod
    def open(cls, database: Database, catalogue: Catalogue, dim: int, shards: int = 1) -> Self:
        """Open every shard; create those that are not there. See AttributeTable.open.

        Raises:
            ConfigurationError: the store holds rows in another number of shards; or as for a table.
            StoreUnavailable: the database can't be read or written, or does not answer in time.

        """
        check_shards(database, catalogue, dim, shards)
        return cls.open_unchecked(database, catalogue, dim, shards)

    @classmethod
    def open_unchecked(cls, database: Database, catalogue: Catalogue, dim: int, shards: int) -> Self:
        """Do the same, whatever the store holds in other shards: for whoever moves the rows."""
        tables = {
            shard: AttributeTable.open(database, catalogue, dim, name) for shard, name in enumerate(table_names(shards))
        }
        return cls(tables, shards, catalogue, dim)

    @classmethod
    def open_existing(cls, database: Database, catalogue: Catalogue, dim: int, shards: int = 1) -> Self:
        """Open the shards that are there, to read them; write nothing. See `open`."""
        check_shards(database, catalogue, dim, shards)
        found = (
            (shard, AttributeTable.open_existing(database, catalogue, dim, name))
            for shard, name in enumerate(table_names(shards))
        )
        return cls({shard: table for shard, table in found if table is not None}, shards, catalogue, dim)

    @property
    def missing(self) -> Sequence[str]:
        """The tables that are not there."""
        return [name for shard, name in enumerate(table_names(self.shards)) if shard not in self.tables]

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the newest version of every shard; see AttributeTable.read."""
        for table in self.tables.values():
            yield from table.read(columns)

    def find(self, video_id: str) -> dict[str, Any] | None:
        """Return the row of a video; see AttributeTable.find."""
        table = self.tables.get(shard_of(video_id, self.shards))
        return None if table is None else table.find(video_id)

    def rows(self) -> Rows:
        """Count rows, distinct videos and removed videos.

        Raises:
            StoreUnavailable: a table can't be read.

        """
        return count_rows(self.read([KEY, "status"]))

    def upsert(self, rows: pa.Table) -> int:
        """Upsert each row into its shard, one shard after the other; see AttributeTable.upsert."""
        if self.shards == 1:
            return self.tables[0].upsert(rows)
        shards = np.array([shard_of(video_id, self.shards) for video_id in rows[KEY].to_pylist()])
        return sum(table.upsert(rows.filter(pa.array(shards == shard))) for shard, table in self.tables.items())


def check_shards(database: Database, catalogue: Catalogue, dim: int, shards: int) -> None:
    """Check that the store holds no rows in another number of shards.

    Raises:
        ConfigurationError: it does.
        StoreUnavailable: the database can't be read.

    """
    for found, names in other_layouts(database, shards).items():
        tables = [AttributeTable.open_existing(database, catalogue, dim, name) for name in names]
        rows = sum(table.rows().rows for table in tables if table is not None)
        if rows:
            raise ConfigurationError(
                f"the store at {database.uri} has {rows} rows in {found} {'shard' if found == 1 else 'shards'}, but"
                f" VIBESTREAM_STORE_SHARDS={shards}. Set it to {found}; or stop the store workers and move the rows:"
                f" vibestream store reshard {shards}"
            )


def other_layouts(database: Database, shards: int) -> dict[int, list[str]]:
    """Return the tables of attributes in other numbers of shards, by that number."""
    found: dict[int, list[str]] = {}
    for name in sorted(database.tables()):
        other = shards_of_table(name)
        if other is not None and other != shards:
            found.setdefault(other, []).append(name)
    return found
