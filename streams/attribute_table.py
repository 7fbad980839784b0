"""One table of attributes in LanceDB: one row per video, newest annotation wins."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, Self, TypeVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from lancedb.table import Table

from schemas.attributes import Catalogue
from schemas.table import attribute_schema
from streams.common_row import IS_VIDEO, add_common_row, merge_newest, with_common_row
from streams.database import Database
from streams.key_index import index_new_keys, keep_key_index
from streams.raced_creation import bring_back
from streams.shards import TABLE
from streams.store_calls import StoreCalls
from streams.table_schema import KEY, add_missing, check_fit, missing_columns, with_nulls

T = TypeVar("T")

_KEEP_VERSIONS = timedelta(minutes=10)  # a reader on an older version fails until it refreshes
_CLEAN_UP_SECONDS = 60.0  # a clean-up reads the manifest of every version kept: 0.15 ms each
_ROWS_PER_FRAGMENT = 100_000  # bounds what one compaction rewrites
_UNINDEXED = 5  # merges, whose rows every later one scans, 1 ms each


class Rows(NamedTuple):
    """What a table holds. `rows` exceeds `videos` only when some video is stored twice."""

    rows: int
    videos: int
    removed: int


class Size(NamedTuple):
    """How large a table is on disk; every merge adds a fragment, every compaction takes most away."""

    fragments: int
    rows: int
    bytes: int


class AttributeTable:
    """One row per video, removed ones included. Synchronous; use it from one thread.

    There is one writer per table. Two may overlap while Kafka moves partitions, so every merge updates one common row,
    which no reader is shown: of two merges at once the later one is tried again, whether it finds its rows by the index
    that large tables have or, as `video_id` is Lance's unenforced primary key, without. See common_row.
    """

    def __init__(self, table: Table, name: str, database: Database, catalogue: Catalogue, dim: int) -> None:
        """Wrap `table`; `open` and `open_existing` check what is needed of it."""
        self._table = table
        self._calls = StoreCalls(database.uri, database.deadline_s)
        self._cleaned_up = float("-inf")
        self._schema = attribute_schema(catalogue, dim)
        self._unindexed = 0
        self.written_version = 0  # by the last upsert
        self.name = name
        self.catalogue = catalogue
        self.dim = dim

    @classmethod
    def open(cls, database: Database, catalogue: Catalogue, dim: int, name: str = TABLE) -> Self:
        """Open a table; create it if there is none.

        Attributes that the catalogue has gained become columns, null in the rows that are there; writers that do not
        know them go on. Columns of attributes that it has lost stay, null in new rows. Every read sees the newest
        write, from any process.

        Raises:
            ConfigurationError: a column of the table has another type than catalogue and `dim` say; DamagedTable.
            StoreUnavailable: the database can't be read or written, or does not answer in time.

        """
        wanted = attribute_schema(catalogue, dim)

        def create() -> Table:
            found = database.find(name)
            table = found or database.create(name, wanted)
            check_fit(table.schema, wanted, f"table {name!r} at {database.uri}")
            add_missing(table, wanted)
            add_common_row(table)
            if found is None:
                bring_back(table, timedelta(seconds=database.deadline_s))
            return table

        return cls(database.calls.run("open", create), name, database, catalogue, dim)

    @classmethod
    def open_existing(cls, database: Database, catalogue: Catalogue, dim: int, name: str = TABLE) -> Self | None:
        """Open a table to read it, without writing anything; return None if there is none. See `open`.

        Attributes that the table has no columns for yet read as null.
        """

        def find() -> Table | None:
            table = database.find(name)
            if table is not None:
                check_fit(table.schema, attribute_schema(catalogue, dim), f"table {name!r} at {database.uri}")
            return table

        found = database.calls.run("open", find)
        return None if found is None else cls(found, name, database, catalogue, dim)

    def upsert(self, rows: pa.Table) -> int:
        """Insert or replace rows of `to_table`, per video only by a higher seq; return how many rows changed.

        Atomic and idempotent. Of several rows for one video the one of highest seq counts. Rows may have more columns
        than the table, which then gains them.

        Raises:
            StoreUnavailable: nothing was written, or it is unknown whether; try the same rows again.

        """
        if rows.num_rows == 0:
            return 0
        newest = _newest_per_video(rows)

        def merge() -> Any:
            stored = self._table.schema
            if missing_columns(stored, newest.schema):  # rows of a wider table, or the table was replaced
                add_missing(self._table, newest.schema)
                stored = self._table.schema
            complete = with_common_row(with_nulls(newest, stored))
            return merge_newest(self._table, complete, timedelta(seconds=self._calls.deadline_s))

        merged = self._calls.run("write", merge)
        self.written_version = merged.version
        self._unindexed += 1
        return merged.num_inserted_rows + merged.num_updated_rows - 1

    def ask(self, question: Callable[[Table], T]) -> T:
        """Return what `question` finds in the newest version of the table.

        Raises:
            StoreUnavailable: the table can't be read, or does not answer in time.

        """
        return self._calls.run("search", lambda: question(self._table))

    def compact(self) -> None:
        """Merge small fragments, refresh indexes and, at most once a minute, delete versions older than ten minutes.

        Every upsert adds a fragment, and its latency grows with their number. A table that has become large gets the
        index of its keys. Takes 0.05 to 1 s.

        Raises:
            StoreUnavailable: it failed, or another process compacted first; the rows are unharmed.

        """

        def compact() -> None:
            dataset = self._table.to_lance()
            dataset.optimize.compact_files(target_rows_per_fragment=_ROWS_PER_FRAGMENT)
            self._table.checkout_latest()
            keep_key_index(self._table)
            dataset.checkout_latest()
            dataset.optimize.optimize_indices()
            self._table.checkout_latest()
            if time.monotonic() - self._cleaned_up >= _CLEAN_UP_SECONDS:
                dataset.cleanup_old_versions(_KEEP_VERSIONS, error_if_tagged_old_versions=False)
                self._cleaned_up = time.monotonic()

        self._calls.run("compact", compact)
        self._unindexed = 0

    @property
    def index_is_behind(self) -> bool:
        """Whether enough was merged since the index was brought up to date to make merges slow."""
        return self._unindexed >= _UNINDEXED

    def index(self) -> None:
        """Take new rows into the index of keys, if there is one: some 15 ms.

        Raises:
            StoreUnavailable: it failed, or another process did it first; the rows are unharmed.

        """
        self._calls.run("index", lambda: index_new_keys(self._table))
        self._unindexed = 0

    def size(self) -> Size:
        """Return how large the newest version is.

        Raises:
            StoreUnavailable: the table can't be read.

        """
        stats: Any = self._calls.run("read", self._table.stats)  # a dict, whatever its annotation says
        rows = max(0, stats["num_rows"] - 1)  # without the common row
        return Size(stats["fragment_stats"]["num_fragments"], rows, stats["total_bytes"])

    def rows(self) -> Rows:
        """Count rows, distinct videos and removed videos.

        Raises:
            StoreUnavailable: the table can't be read.

        """
        return count_rows(self.read([KEY, "status"]))

    def version(self) -> int:
        """Return the number of the newest version, which every write raises.

        Raises:
            StoreUnavailable: the table can't be read.

        """
        return self._calls.run("read", lambda: self._table.version)

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the newest version in batches, all columns or the given ones.

        Removed videos are among the rows (status "removed"): never serve them, but remember their seq, against late
        annotations.

        Raises:
            StoreUnavailable: the table can't be read.

        """
        dataset = self._calls.run("read", self._table.to_lance)
        wanted = self._schema if columns is None else pa.schema([self._schema.field(name) for name in columns])
        present = None if columns is None else [name for name in columns if name in dataset.schema.names]
        for batch in self._batches(dataset, present):
            whole = with_nulls(batch, wanted)
            yield whole if columns is None else whole.select(list(columns))

    def find(self, video_id: str) -> dict[str, Any] | None:
        """Return the row of a video by column, without its vector; None if there is none.

        Raises:
            StoreUnavailable: the table can't be read.

        """
        columns = [name for name in self._schema.names if name != "vector"]

        def rows() -> list[dict[str, Any]]:
            dataset: Any = self._table.to_lance()
            present = [name for name in columns if name in dataset.schema.names]
            return dataset.to_table(columns=present, filter=pc.field(KEY) == video_id).to_pylist()

        found = self._calls.run("read", rows) if video_id else []
        return {**dict.fromkeys(columns), **found[0]} if found else None

    @contextmanager
    def kept(self) -> Generator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
        """Keep the newest version from being cleaned up and give its schema and batches, all columns as stored.

        Raises:
            StoreUnavailable: the table can't be read, or not marked.

        """
        dataset = self._calls.run("read", self._table.to_lance)
        tag = f"copy-{uuid4().hex}"
        self._calls.run("mark", lambda: dataset.tags.create(tag, dataset.version))
        try:
            yield dataset.schema, self._batches(dataset, None)
        finally:
            self._calls.run("unmark", lambda: dataset.tags.delete(tag))

    def _batches(self, dataset: Any, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        batches = self._calls.run("read", lambda: iter(dataset.to_batches(columns=columns, filter=IS_VIDEO)))
        while (batch := self._calls.run("read", lambda: next(batches, None))) is not None:
            yield batch


def count_rows(batches: Iterable[pa.RecordBatch]) -> Rows:
    """Count what batches of the columns `video_id` and `status` hold."""
    keys: list[Any] = []
    removed = 0
    for batch in batches:
        keys.append(batch.column(KEY))
        removed += batch.column("status").to_pylist().count("removed")
    every: Any = pa.chunked_array(keys, pa.string())
    return Rows(len(every), len(every.unique()), removed)


def _newest_per_video(rows: pa.Table) -> pa.Table:
    """Keep the row of highest seq per video: LanceDB inserts a new key twice when one batch holds it twice."""
    seqs: list[int] = rows["seq"].to_pylist()
    newest: dict[str, int] = {}
    for row, video_id in enumerate(rows[KEY].to_pylist()):
        held = newest.get(video_id)
        if held is None or seqs[row] > seqs[held]:
            newest[video_id] = row
    return rows if len(newest) == len(rows) else rows.take(list(newest.values()))
