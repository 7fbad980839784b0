"""Telling a damaged table from a store that is away."""

import re

from lancedb.db import DBConnection

# What lance 13 says of files that are cut short, empty, gone, or not its own; a connection that fails says none of it.
_DAMAGE = re.compile(
    r"file size is too small|invalid range|not found: |magic number|corrupt|invalid protobuf|failed to decode", re.I
)
_RUST_SOURCE = re.compile(r",? ?/\S+?\.rs:\d+(:\d+)?")


def is_damage(error: Exception) -> bool:
    """Tell whether an error of LanceDB on a table that was there is damage."""
    return _DAMAGE.search(str(error)) is not None


def reason(error: Exception) -> str:
    """Return the message of an error without the places in Rust it came through."""
    return _RUST_SOURCE.sub("", str(error))


def is_listed(database: DBConnection, name: str) -> bool:
    """Tell whether the database has files of a table, openable or not."""
    token: str | None = None
    while True:
        page = database.list_tables(page_token=token)
        if name in page.tables:
            return True
        token = page.page_token
        if not token:
            return False
