"""What an operator does with the attribute table: check it, back it up, restore it."""

import msgspec

from models.bundle import load_bundle
from schemas.attributes import load_catalogue
from schemas.errors import ConfigurationError, DamagedTable, StoreUnavailable
from streams.attribute_table import AttributeTable, Rows
from streams.table_copy import copy_table
from streams.table_damage import is_damage
from topology.console import progress
from topology.roles import bundle_path
from topology.settings import Settings


class StoreCheck(msgspec.Struct, frozen=True):
    """Counts of the table, zero where `damage` kept them from being made."""

    uri: str
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
    """Open the table, read every column of every row, and count.

    Lance keeps no checksums: a changed byte in a value goes unseen, only missing and truncated files are found.

    Raises:
        ConfigurationError: there is no table, or it does not fit the catalogue.
        StoreUnavailable: the store does not answer.

    """
    uri = settings.store_uri
    try:
        table = _needed(settings, uri)
        with progress() as bars:
            counts = table.rows()
            task = bars.add_task("reading", total=counts.rows)
            for batch in table.read():
                bars.advance(task, batch.num_rows)
    except DamagedTable as error:
        return StoreCheck(uri, damage=str(error))
    except StoreUnavailable as error:
        if isinstance(error.__cause__, Exception) and is_damage(error.__cause__):
            return StoreCheck(uri, damage=str(error))
        raise
    return _counted(uri, counts)


def backup(settings: Settings, to: str) -> int:
    """Copy the table to a database at `to`; return the rows.

    Raises:
        ConfigurationError: there is no table, or `to` holds one.
        StoreUnavailable: the store does not answer, or `to` can't be written.

    """
    return _copy(settings, settings.store_uri, to)


def restore(settings: Settings, source: str) -> int:
    """Copy the table of the database at `source` into the store, which has none or an empty one; return the rows.

    Raises:
        ConfigurationError: `source` has no table, or the store's holds rows.
        StoreUnavailable: `source` or the store does not answer.

    """
    return _copy(settings, source, settings.store_uri)


def _copy(settings: Settings, source_uri: str, target_uri: str) -> int:
    source, target = _needed(settings, source_uri), _table(settings, target_uri)
    with progress() as bars:
        task = bars.add_task(f"{source_uri} → {target_uri}", total=source.rows().rows)
        return copy_table(
            source,
            target_uri,
            target,
            lambda rows: bars.advance(task, rows),
            storage_options=settings.storage_options,
        )


def _table(settings: Settings, uri: str) -> AttributeTable | None:
    return AttributeTable.open_existing(
        uri,
        load_catalogue(settings.catalogue_path),
        load_bundle(bundle_path(settings)).manifest.dim,
        storage_options=settings.storage_options,
        deadline_s=settings.store_deadline_s,
    )


def _needed(settings: Settings, uri: str) -> AttributeTable:
    table = _table(settings, uri)
    if table is None:
        raise ConfigurationError(f"there is no attribute table at {uri}; the first store worker creates it")
    return table


def _counted(uri: str, counts: Rows) -> StoreCheck:
    return StoreCheck(uri, counts.rows, counts.videos, counts.removed, counts.rows - counts.videos)
