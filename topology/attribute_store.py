"""The attribute store as the settings have it."""

from collections.abc import Callable

from schemas.attributes import Catalogue
from schemas.errors import StoreUnavailable
from streams.attribute_store import AttributeStore
from streams.database import Database
from streams.shards import table_names
from topology.bundle import student_dim
from topology.settings import Settings

_REACH_S = 5.0


def database(settings: Settings, uri: str = "") -> Database:
    """Return the database of the store, or the one at `uri`."""
    return Database(
        uri or settings.store_uri, storage_options=settings.storage_options, deadline_s=settings.store_deadline_s
    )


def open_table(settings: Settings, catalogue: Catalogue) -> AttributeStore:
    """Open the attribute table, all shards of it, for the student's embeddings; create it if it is not there."""
    return AttributeStore.open(database(settings), catalogue, student_dim(settings), settings.store_shards)


def reaching(settings: Settings) -> Callable[[], None]:
    """Return what asks, on a connection of its own and with little patience, whether the tables of now are still there.

    It raises StoreUnavailable.
    """
    patience_s = min(settings.store_deadline_s, _REACH_S)
    store = Database(settings.store_uri, storage_options=settings.storage_options, deadline_s=patience_s)
    names = store.tables() & set(table_names(settings.store_shards))

    def reach() -> None:
        missing = names - store.tables()
        if missing:
            raise StoreUnavailable(f"no table {', '.join(sorted(missing))} at {settings.store_uri}")

    return reach
