"""What an operator does with the attribute store: check, index, back up, restore, spread over other shards."""

import msgspec

from schemas.attributes import load_catalogue
from schemas.errors import ConfigurationError, DamagedTable, StoreUnavailable
from streams import reshard as moving
from streams.attribute_store import AttributeStore
from streams.attribute_table import Rows
from streams.shards import shards_of_table
from streams.table_copy import copy_store
from streams.table_damage import is_damage
from streams.table_index import make_indexes
from topology.attribute_store import database
from topology.bundle import student_dim
from topology.console import progress
from topology.settings import MAX_SHARDS, Settings, with_changes

_INDEX_S = 3_600.0  # the vectors of a large table take their time


class StoreCheck(msgspec.Struct, frozen=True):
    """Counts of the store, zero where `damage` kept them from being made."""

    uri: str
    shards: int
    rows: int = 0
    videos: int = 0
    removed: int = 0
    duplicates: int = 0
    damage: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything could be read and no video is there twice."""
        return not self.damage and not self.duplicates


def check(settings: Settings) -> StoreCheck:
    """Open every shard, read every column of every row, and count.

    Lance keeps no checksums: a changed byte in a value goes unseen, only missing and truncated files are found.

    Raises:
        ConfigurationError: there is no store, or it does not fit the catalogue or the number of shards.
        StoreUnavailable: the store does not answer.

    """
    uri, shards = settings.store_uri, settings.store_shards
    try:
        store = _needed(settings, uri)
        with progress() as bars:
            counts = store.rows()
            task = bars.add_task("reading", total=counts.rows)
            for batch in store.read():
                bars.advance(task, batch.num_rows)
    except DamagedTable as error:
        return StoreCheck(uri, shards, damage=str(error))
    except StoreUnavailable as error:
        if isinstance(error.__cause__, Exception) and is_damage(error.__cause__):
            return StoreCheck(uri, shards, damage=str(error))
        raise
    missing = f"there is no table {', '.join(store.missing)}" if store.missing else ""
    return _counted(uri, shards, counts, missing)


def index(settings: Settings) -> int:
    """Make the indexes that searching the store takes; return how many. See `make_indexes`.

    Raises:
        ConfigurationError: there is no store.
        StoreUnavailable: the store does not answer, or some index took an hour.

    """
    store = _needed(with_changes(settings, store_deadline_s=_INDEX_S), settings.store_uri)
    made = 0
    with progress() as bars:
        for table in store.tables.values():
            task = bars.add_task(f"indexes of {table.name}", total=None)
            for column in make_indexes(table):
                made += 1
                bars.update(task, advance=1, description=f"indexes of {table.name}: {column}")
    return made


def backup(settings: Settings, to: str) -> int:
    """Copy the store, shard by shard, to a database at `to`; return the rows.

    Raises:
        ConfigurationError: there is no store, or `to` holds one.
        StoreUnavailable: the store does not answer, or `to` can't be written.

    """
    return _copy(settings, settings.store_uri, to)


def restore(settings: Settings, source: str) -> int:
    """Copy the database at `source` into those shards of the store that are absent or empty; return the rows.

    Raises:
        ConfigurationError: `source` has no store in as many shards, or every shard of ours holds rows.
        StoreUnavailable: `source` or the store does not answer.

    """
    return _copy(settings, source, settings.store_uri)


def reshard(settings: Settings, shards: int) -> int:
    """Move the rows of the store into another number of shards; return how many were moved.

    Raises:
        ConfigurationError: there is no store, the number is out of range, or a store worker wrote meanwhile.
        StoreUnavailable: the store does not answer.

    """
    if not 1 <= shards <= MAX_SHARDS:
        raise ConfigurationError(f"{shards} shards: choose 1 to {MAX_SHARDS}")
    place = database(settings)
    if not any(map(shards_of_table, place.tables())):
        raise _nothing(settings.store_uri)
    with progress() as bars:
        task = bars.add_task(f"into {shards} {'shard' if shards == 1 else 'shards'}", total=None)
        return moving.reshard(
            place,
            load_catalogue(settings.catalogue_path),
            student_dim(settings),
            shards,
            lambda rows: bars.advance(task, rows),
        )


def _copy(settings: Settings, source_uri: str, target_uri: str) -> int:
    source, target = _needed(settings, source_uri), _store(settings, target_uri)
    with progress() as bars:
        task = bars.add_task(f"{source_uri} → {target_uri}", total=source.rows().rows)
        return copy_store(source, database(settings, target_uri), target, lambda rows: bars.advance(task, rows))


def _store(settings: Settings, uri: str) -> AttributeStore:
    catalogue = load_catalogue(settings.catalogue_path)
    return AttributeStore.open_existing(
        database(settings, uri), catalogue, student_dim(settings), settings.store_shards
    )


def _needed(settings: Settings, uri: str) -> AttributeStore:
    store = _store(settings, uri)
    if not store.tables:
        raise _nothing(uri)
    return store


def _nothing(uri: str) -> ConfigurationError:
    return ConfigurationError(f"there is no attribute table at {uri}; the first store worker creates it")


def _counted(uri: str, shards: int, counts: Rows, missing: str) -> StoreCheck:
    return StoreCheck(
        uri, shards, counts.rows, counts.videos, counts.removed, counts.rows - counts.videos, damage=missing
    )
