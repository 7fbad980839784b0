"""The attribute table in LanceDB: one row per video, newest annotation wins."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, Self

import lancedb
import pyarrow as pa
from lancedb.table import Table

from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError, StoreUnavailable
from schemas.table import attribute_schema

_KEY = "video_id"
_LANCE_ERRORS = (OSError, RuntimeError, ValueError)  # an unreachable store comes as any of the three
_MERGE_TIMEOUT = timedelta(seconds=60)
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

    def __init__(self, table: Table, uri: str, catalogue: Catalogue, dim: int) -> None:
        """Wrap `table`, which has the columns of `catalogue`; `open` checks that."""
        self._table = table
        self._uri = uri
        self._cleaned_up = float("-inf")
        self.catalogue = catalogue
        self.dim = dim

    @classmethod
    def open(
        cls,
        uri: str,
        catalogue: Catalogue,
        dim: int,
        *,
        name: str = "attributes",
        storage_options: Mapping[str, str] | None = None,
        cache_bytes: int = 256 * 2**20,
    ) -> Self:
        """Open the table `name` of the database at `uri` (directory or object store); create it if there is none.

        `cache_bytes` bounds the memory for indexes and for metadata, each. Every read sees the newest write, from any
        process.

        Raises:
            ConfigurationError: the columns of the table are not those of the catalogue and `dim`.
            StoreUnavailable: the database can't be read or written.

        """
        wanted = attribute_schema(catalogue, dim)
        with _as_unavailable(uri, "open"):
            database = lancedb.connect(
                uri,
                read_consistency_interval=timedelta(0),
                storage_options=dict(storage_options) if storage_options else None,
                session=lancedb.Session(index_cache_size_bytes=cache_bytes, metadata_cache_size_bytes=cache_bytes),
            )
            try:
                table = database.open_table(name)
            except ValueError:
                table = database.create_table(name, schema=wanted, exist_ok=True)
            differences = _differences(table.schema, wanted)
        if differences:
            raise ConfigurationError(
                f"table {name!r} at {uri} does not fit the attribute catalogue and the student:"
                f" {'; '.join(differences)}. Go back to the catalogue and student that it was made with, or store under"
                " a new uri and replay the annotations topic from its beginning"
            )
        return cls(table, uri, catalogue, dim)

    def upsert(self, rows: pa.Table) -> int:
        """Insert or replace rows of `to_table`, per video only by a higher seq; return how many rows changed.

        Atomic and idempotent. Of several rows for one video the one of highest seq counts.

        Raises:
            StoreUnavailable: nothing was written, or it is unknown whether; try the same rows again.

        """
        with _as_unavailable(self._uri, "write"):
            merged = (
                self._table.merge_insert(_KEY)
                .when_matched_update_all(where="target.seq < source.seq")
                .when_not_matched_insert_all()
                .use_index(False)
                # LanceDB takes a null vector for a malformed one; "null" is the policy that stores it as it is.
                .execute(_newest_per_video(rows), on_bad_vectors="null", timeout=_MERGE_TIMEOUT)
            )
        return merged.num_inserted_rows + merged.num_updated_rows

    def compact(self) -> None:
        """Merge small fragments, refresh indexes and, at most once a minute, delete versions older than ten minutes.

        Every upsert adds a fragment, and its latency grows with their number. Takes 0.05 to 1 s.

        Raises:
            StoreUnavailable: it failed, or another process compacted first; the rows are unharmed.

        """
        with _as_unavailable(self._uri, "compact"):
            dataset = self._table.to_lance()
            dataset.optimize.compact_files(target_rows_per_fragment=_ROWS_PER_FRAGMENT)
            dataset.optimize.optimize_indices()
            self._table.checkout_latest()
            if time.monotonic() - self._cleaned_up >= _CLEAN_UP_SECONDS:
                dataset.cleanup_old_versions(_KEEP_VERSIONS, error_if_tagged_old_versions=False)
                self._cleaned_up = time.monotonic()

    def fragments(self) -> int:
        """Return the number of fragments.

        Raises:
            StoreUnavailable: the table can't be read.

        """
        with _as_unavailable(self._uri, "read"):
            stats: Any = self._table.stats()  # a dict, whatever its annotation says
        return stats["fragment_stats"]["num_fragments"]

    def rows(self) -> Rows:
        """Count rows, distinct videos and removed videos.

        Raises:
            StoreUnavailable: the table can't be read.

        """
        with _as_unavailable(self._uri, "read"):
            dataset = self._table.to_lance()
            keys = dataset.to_table(columns=[_KEY])[_KEY]
            return Rows(len(keys), len(keys.unique()), dataset.count_rows("status = 'removed'"))

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the newest version in batches, all columns or the given ones.

        Removed videos are among the rows (status "removed"): never serve them, but remember their seq, against late
        annotations.

        Raises:
            StoreUnavailable: the table can't be read.

        """
        with _as_unavailable(self._uri, "read"):
            yield from self._table.to_lance().to_batches(columns=None if columns is None else list(columns))


@contextmanager
def _as_unavailable(uri: str, action: str) -> Generator[None]:
    try:
        yield
    except _LANCE_ERRORS as error:
        raise StoreUnavailable(
            f"LanceDB can't {action} the attribute table at {uri}: {error}. Check that the address exists, is reachable"
            " and writable, and has free space"
        ) from error


def _differences(found: pa.Schema, wanted: pa.Schema) -> list[str]:
    """Say, column by column, where a table is not what it should be; the order of columns does not matter."""
    have, want = set(found.names), set(wanted.names)
    missing = [f"column {name} is missing" for name in wanted.names if name not in have]
    extra = [f"column {name} is not in the catalogue" for name in found.names if name not in want]
    other = [
        f"column {name} is {found.field(name).type}, not {wanted.field(name).type}"
        for name in wanted.names
        if name in have and found.field(name).type != wanted.field(name).type
    ]
    if _KEY in have and found.field(_KEY).metadata != wanted.field(_KEY).metadata:
        other.append(f"column {_KEY} is not marked as the primary key")
    return missing + extra + other


def _newest_per_video(rows: pa.Table) -> pa.Table:
    """Keep the row of highest seq per video: LanceDB inserts a new key twice when one batch holds it twice."""
    seqs: list[int] = rows["seq"].to_pylist()
    newest: dict[str, int] = {}
    for row, video_id in enumerate(rows[_KEY].to_pylist()):
        held = newest.get(video_id)
        if held is None or seqs[row] > seqs[held]:
            newest[video_id] = row
    return rows if len(newest) == len(rows) else rows.take(list(newest.values()))
