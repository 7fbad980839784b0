"""A LanceDB database, a directory or a place in an object store, and the tables in it."""

import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property

import lancedb
import pyarrow as pa
from lancedb.db import DBConnection
from lancedb.table import Table

from schemas.errors import DamagedTable
from streams.store_calls import LANCE_ERRORS, StoreCalls
from streams.table_damage import is_damage, left_by_a_failed_creation, reason

DEADLINE_S = 60.0
_CACHE_BYTES = 256 * 2**20
_CREATION_WAITS = (0.05, 0.2, 1.0)  # seconds; creating a table takes some 10 ms


class Database:
    """Where tables lie. Making one connects to nothing; `calls` are for what concerns no single table.

    `find` and `create` fail as LanceDB does, and may hang: run them through StoreCalls.
    """

    def __init__(
        self,
        uri: str,
        *,
        storage_options: Mapping[str, str] | None = None,
        deadline_s: float = DEADLINE_S,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        """`storage_options` are LanceDB's, without credentials: those it reads from AWS_* itself.

        `cache_bytes` bounds the memory for indexes and for metadata, each.
        """
        self.uri = uri
        self.storage_options = dict(storage_options) if storage_options else None
        self.deadline_s = deadline_s
        self.calls = StoreCalls(uri, deadline_s)
        self._cache_bytes = cache_bytes

    @cached_property
    def _connection(self) -> DBConnection:
        return lancedb.connect(
            self.uri,
            read_consistency_interval=timedelta(0),
            storage_options=self.storage_options,
            session=lancedb.Session(
                index_cache_size_bytes=self._cache_bytes, metadata_cache_size_bytes=self._cache_bytes
            ),
        )

    def tables(self) -> set[str]:
        """Return the names of the tables that have files, openable or not.

        Raises:
            StoreUnavailable: the database can't be read.

        """
        return self.calls.run("list", self._names)

    def drop(self, name: str) -> None:
        """Delete a table.

        Raises:
            StoreUnavailable: the database can't be written.

        """
        self.calls.run("drop", lambda: self._connection.drop_table(name))

    def find(self, name: str) -> Table | None:
        """Open a table, whose files must be whole; None if there is none.

        Raises:
            DamagedTable: files are gone or cut short.

        """
        table = self._open(name)
        if table is not None:
            self._check_files(table, name)
        return table

    def create(self, name: str, schema: pa.Schema) -> Table:
        """Create a table, or open the one that another opener creates at the same time, maybe for another catalogue."""
        try:
            return self._connection.create_table(name, schema=schema)
        except LANCE_ERRORS:
            table = self._open(name)
            if table is None:
                raise
            return table

    def _open(self, name: str) -> Table | None:
        # Files without a version are damage, unless someone just creates the table.
        for wait in (0.0, *_CREATION_WAITS):
            time.sleep(wait)
            try:
                return self._connection.open_table(name)
            except ValueError:
                if name not in self._names() or left_by_a_failed_creation(self.uri, name):
                    return None
            except (OSError, RuntimeError) as error:
                if is_damage(error):
                    raise DamagedTable(self.uri, name, f"its newest manifest can't be read ({reason(error)})") from (
                        error
                    )
                raise
        raise DamagedTable(self.uri, name, "it has files but no manifest, so no version of it can be read")

    def _names(self) -> set[str]:
        names, token = set[str](), None
        while True:
            page = self._connection.list_tables(page_token=token)
            names.update(page.tables)
            token = page.page_token
            if not token:
                return names

    def _check_files(self, table: Table, name: str) -> None:
        """Check that every file of the newest version is there and whole by its footer: 1 ms a fragment."""
        try:
            table.to_lance().validate()
        except LANCE_ERRORS as error:
            if is_damage(error):
                raise DamagedTable(
                    self.uri, name, f"a file of its newest version is gone or cut short ({reason(error)})"
                ) from error
            raise
