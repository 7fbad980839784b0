"""Telling a damaged table from a store that is away."""

import re
from pathlib import Path

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


def left_by_a_failed_creation(uri: str, name: str) -> bool:
    """Tell whether the files of a table without a version are the remains of a creation, say on a full disk.

    They are when no rows are among them. An object store is not looked into: there a creation leaves nothing behind
    unless the process dies in the midst of it.
    """
    if "://" in uri:
        return False
    files = Path(uri, f"{name}.lance")
    return not any(path.is_file() for folder in ("data", "_versions") for path in (files / folder).glob("*"))
