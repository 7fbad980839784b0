"""The attribute table in LanceDB: one row per video, newest annotation wins."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, Self, TypeVar
from uuid import uuid4

import lancedb
import pyarrow as pa
from lancedb.db import DBConnection
from lancedb.table import Table

from schemas.attributes import Catalogue
from schemas.errors import DamagedTable, StoreUnavailable
from schemas.table import attribute_schema
from streams.deadline import Deadline
from streams.table_damage import is_damage, is_listed, reason
from streams.table_schema import KEY, add_missing, check_fit, missing_columns, with_nulls

T = TypeVar("T")
TABLE = "attributes"
DEADLINE_S = 60.0
_CACHE_BYTES = 256 * 2**20
_CREATION_WAITS = (0.05, 0.2, 1.0)  # seconds; creating a table takes some 10 ms
_LANCE_ERRORS = (OSError, RuntimeError, ValueError)  # an unreachable store comes as any of the three
_KEEP_VERSIONS = timedelta(minutes=10)  # a reader on an older version fails until it refreshes
_CLEAN_UP_SECONDS = 60.0  # a clean-up reads the manifest of every version kept: 0.15 ms each
_ROWS_PER_FRAGMENT = 100_000  # bounds what one compaction rewrites


class Rows(NamedTuple):
    """What the table holds. `rows` exceeds `videos` only when some video is stored twice."""

    rows: int
    videos: int
    removed: int


class AttributeTable:
    """The attribute table, one row per video, removed ones included. Synchronous; use it from one thread.

    There is one writer per table. Two may overlap while Kafka moves partitions, so `video_id` is Lance's unenforced
    primary key and merges use no scalar index on it: with a BTREE, concurrent inserts of a new key duplicate it without
    an error (lancedb#3377); without one, the second commit is retried. The price is a scan of the key column per merge,
    which batches share: 0.15 s at a million videos.
    """

    def __init__(self, table: Table, uri: str, catalogue: Catalogue, dim: int, deadline: Deadline) -> None:
        """Wrap `table`; `open` and `open_existing` check what is needed of it."""
        self._table = table
        self._uri = uri
        self._deadline = deadline
        self._cleaned_up = float("-inf")
        self._schema = attribute_schema(catalogue, dim)
        self.catalogue = catalogue
        self.dim = dim

    @classmethod
    def open(
        cls,
        uri: str,
        catalogue: Catalogue,
        dim: int,
        *,
        name: str = TABLE,
        storage_options: Mapping[str, str] | None = None,
        deadline_s: float = DEADLINE_S,
        cache_bytes: int = _CACHE_BYTES,
    ) -> Self:
        """Open the table `name` of the database at `uri` (directory or object store); create it if there is none.

        Attributes that the catalogue has gained become columns, null in the rows that are there; writers that do not
        know them go on. Columns of attributes that it has lost stay, null in new rows. `storage_options` are LanceDB's,
        without credentials: those it reads from AWS_* itself. `cache_bytes` bounds the memory for indexes and for
        metadata, each. Every read sees the newest write, from any process.

        Raises:
            ConfigurationError: a column of the table has another type than catalogue and `dim` say; DamagedTable.
            StoreUnavailable: the database can't be read or written, or does not answer within `deadline_s`.

        """
        wanted = attribute_schema(catalogue, dim)
        deadline = Deadline(deadline_s, "lancedb")

        def create() -> Table:
            database = _connect(uri, storage_options, cache_bytes)
            table = _existing(database, uri, name)
            if table is None:
                table = _created(database, uri, name, wanted)
            check_fit(table.schema, wanted, f"table {name!r} at {uri}")
            add_missing(table, wanted)
            _check_files(table, uri, name)
            return table

        return cls(_call(deadline, uri, "open", create), uri, catalogue, dim, deadline)

    @classmethod
    def open_existing(
        cls,
        uri: str,
        catalogue: Catalogue,
        dim: int,
        *,
        name: str = TABLE,
        storage_options: Mapping[str, str] | None = None,
        deadline_s: float = DEADLINE_S,
        cache_bytes: int = _CACHE_BYTES,
    ) -> Self | None:
        """Open a table to read it, without writing anything; return None if there is none. See `open`.

        Attributes that the table has no columns for yet read as null.
        """
        wanted = attribute_schema(catalogue, dim)
        deadline = Deadline(deadline_s, "lancedb")

        def find() -> Table | None:
            database = _connect(uri, storage_options, cache_bytes)
            table = _existing(database, uri, name)
            if table is not None:
                check_fit(table.schema, wanted, f"table {name!r} at {uri}")
                _check_files(table, uri, name)
            return table

        found = _call(deadline, uri, "open", find)
        return None if found is None else cls(found, uri, catalogue, dim, deadline)

    def upsert(self, rows: pa.Table) -> int:
        """Insert or replace rows of `to_table`, per video only by a higher seq; return how many rows changed.

        Atomic and idempotent. Of several rows for one video the one of highest seq counts.

        Raises:
            StoreUnavailable: nothing was written, or it is unknown whether; try the same rows again.

        """
        newest = _newest_per_video(rows)

        def merge() -> Any:
            stored = self._table.schema
            if missing_columns(stored, newest.schema):  # a restore, or an opener that raced, replaced the empty table
                add_missing(self._table, newest.schema)
            # A column left out would keep its value from the annotation that this one replaces.
            complete = with_nulls(newest, stored)
            return (
                self._table.merge_insert(KEY)
                .when_matched_update_all(where="target.seq < source.seq")
                .when_not_matched_insert_all()
                .use_index(False)
                # LanceDB takes a null vector for a malformed one; "null" is the policy that stores it as it is.
                .execute(complete, on_bad_vectors="null", timeout=timedelta(seconds=self._deadline.seconds))
            )

        merged = self._call("write", merge)
        return merged.num_inserted_rows + merged.num_updated_rows

    def compact(self) -> None:
        """Merge small fragments, refresh indexes and, at most once a minute, delete versions older than ten minutes.

        Every upsert adds a fragment, and its latency grows with their number. Takes 0.05 to 1 s.

        Raises:
            StoreUnavailable: it failed, or another process compacted first; the rows are unharmed.

        """

        def compact() -> None:
            dataset = self._table.to_lance()
            dataset.optimize.compact_files(target_rows_per_fragment=_ROWS_PER_FRAGMENT)
            dataset.optimize.optimize_indices()
            self._table.checkout_latest()
            if time.monotonic() - self._cleaned_up >= _CLEAN_UP_SECONDS:
                dataset.cleanup_old_versions(_KEEP_VERSIONS, error_if_tagged_old_versions=False)
                self._cleaned_up = time.monotonic()

        self._call("compact", compact)

    def fragments(self) -> int:
        """Return the number of fragments.

        Raises:
            StoreUnavailable: the table can't be read.

        """
        stats: Any = self._call("read", self._table.stats)  # a dict, whatever its annotation says
        return stats["fragment_stats"]["num_fragments"]

    def rows(self) -> Rows:
        """Count rows, distinct videos and removed videos.

        Raises:
            StoreUnavailable: the table can't be read.

        """

        def count() -> Rows:
            dataset = self._table.to_lance()
            keys = dataset.to_table(columns=[KEY])[KEY]
            return Rows(len(keys), len(keys.unique()), dataset.count_rows("status = 'removed'"))

        return self._call("read", count)

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the newest version in batches, all columns or the given ones.

        Removed videos are among the rows (status "removed"): never serve them, but remember their seq, against late
        annotations.

        Raises:
            StoreUnavailable: the table can't be read.

        """
        dataset = self._call("read", self._table.to_lance)
        wanted = self._schema if columns is None else pa.schema([self._schema.field(name) for name in columns])
        present = None if columns is None else [name for name in columns if name in dataset.schema.names]
        for batch in self._batches(dataset, present):
            whole = with_nulls(batch, wanted)
            yield whole if columns is None else whole.select(list(columns))

    @contextmanager
    def kept(self) -> Generator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        """Keep the newest version from being cleaned up and give its schema and batches, all columns as stored.

        Raises:
            StoreUnavailable: the table can't be read, or not marked.

        """
        dataset = self._call("read", self._table.to_lance)
        tag = f"copy-{uuid4().hex}"
        self._call("mark", lambda: dataset.tags.create(tag, dataset.version))
        try:
            yield dataset.schema, self._batches(dataset, None)
        finally:
            self._call("unmark", lambda: dataset.tags.delete(tag))

    def _batches(self, dataset: Any, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        batches = self._call("read", lambda: iter(dataset.to_batches(columns=columns)))
        while (batch := self._call("read", lambda: next(batches, None))) is not None:
            yield batch

    def _call(self, action: str, call: Callable[[], T]) -> T:
        return _call(self._deadline, self._uri, action, call)


def _connect(uri: str, storage_options: Mapping[str, str] | None, cache_bytes: int) -> DBConnection:
    return lancedb.connect(
        uri,
        read_consistency_interval=timedelta(0),
        storage_options=dict(storage_options) if storage_options else None,
        session=lancedb.Session(index_cache_size_bytes=cache_bytes, metadata_cache_size_bytes=cache_bytes),
    )


def _existing(database: DBConnection, uri: str, name: str) -> Table | None:
    """Open a table; None if there is none. Files without a version are damage, unless someone just creates it."""
    for wait in (0.0, *_CREATION_WAITS):
        time.sleep(wait)
        try:
            return database.open_table(name)
        except ValueError:
            if not is_listed(database, name):
                return None
        except (OSError, RuntimeError) as error:
            if is_damage(error):
                raise DamagedTable(uri, name, f"its newest manifest can't be read ({reason(error)})") from error
            raise
    raise DamagedTable(uri, name, "it has files but no manifest, so no version of it can be read")


def _created(database: DBConnection, uri: str, name: str, schema: pa.Schema) -> Table:
    """Create a table, or open the one that another opener creates at the same time, maybe for another catalogue."""
    try:
        return database.create_table(name, schema=schema)
    except _LANCE_ERRORS:
        table = _existing(database, uri, name)
        if table is None:
            raise
        return table


def _check_files(table: Table, uri: str, name: str) -> None:
    """Check that every file of the newest version is there and whole as far as its footer tells: 1 ms a fragment."""
    try:
        table.to_lance().validate()
    except _LANCE_ERRORS as error:
        if is_damage(error):
            raise DamagedTable(uri, name, f"a file of its newest version is gone or cut short ({reason(error)})") from (
                error
            )
        raise


def _call(deadline: Deadline, uri: str, action: str, call: Callable[[], T]) -> T:
    try:
        return deadline.run(call)
    except TimeoutError as error:
        raise StoreUnavailable(
            f"LanceDB did not {action} the attribute table at {uri} within {deadline.seconds:g} s. Check that the store"
            " answers; if it is only slow, raise VIBESTREAM_STORE_DEADLINE_S"
        ) from error
    except _LANCE_ERRORS as error:
        raise StoreUnavailable(
            f"LanceDB can't {action} the attribute table at {uri}: {reason(error)}. Check that the address exists, is"
            " reachable and writable, and has free space"
        ) from error


def _newest_per_video(rows: pa.Table) -> pa.Table:
    """Keep the row of highest seq per video: LanceDB inserts a new key twice when one batch holds it twice."""
    seqs: list[int] = rows["seq"].to_pylist()
    newest: dict[str, int] = {}
    for row, video_id in enumerate(rows[KEY].to_pylist()):
        held = newest.get(video_id)
        if held is None or seqs[row] > seqs[held]:
            newest[video_id] = row
    return rows if len(newest) == len(rows) else rows.take(list(newest.values()))
