"""The row that every merge into a table updates, so that of two at once the later one fails and is tried again.

Lance finds the rows of a merge by a B-tree on their key, but then does not notice that another merge has inserted the
same keys meanwhile, and both are stored (lancedb#3377). That both updated a row it does notice, and starts the later
one again on what the earlier one left. It works only where all writers do it, and readers leave the row out.
"""

from datetime import timedelta
from typing import Any

import pyarrow as pa
from lancedb.table import Table

from streams.store_calls import LANCE_ERRORS
from streams.table_schema import KEY

_ATTEMPTS = 5

IS_VIDEO = f"{KEY} <> ''"
"""The condition that leaves the common row out. No video has an empty id."""
_REPLACES = f"target.seq < source.seq OR target.{KEY} = ''"
"""When a row of a merge replaces the one that is there: the common row always does, whatever clock wrote it."""
_COMMON: dict[str, Any] = {KEY: "", "seq": 0, "status": "removed", "received_at_ms": 0, "stored_at_ms": 0}
"""Removed and without a vector, so a reader that does not know of it serves no such video."""


def with_common_row(rows: pa.Table) -> pa.Table:
    """Append the common row to rows of any columns that a table of attributes has."""
    return pa.concat_tables([rows, pa.Table.from_pylist([_COMMON], rows.schema)])


def merge_newest(table: Table, rows: pa.Table, timeout: timedelta) -> Any:
    """Insert or replace rows, the common row among them, per video only by a higher seq; return what Lance says of it.

    `rows` have all columns of the table: one left out would keep its value from the row that is replaced.
    """
    return (
        table.merge_insert(KEY)
        .when_matched_update_all(where=_REPLACES)
        .when_not_matched_insert_all()
        # LanceDB takes a null vector for a malformed one; "null" is the policy that stores it as it is.
        .execute(rows, on_bad_vectors="null", timeout=timeout)
    )


def add_common_row(table: Table) -> None:
    """Add the common row if it is not there; openers may race.

    Without the index Lance does notice that another opener has inserted it. That another has created the table anew is
    an error, and the table as it is then is tried again.
    """
    for attempt in range(_ATTEMPTS):
        if table.count_rows(f"{KEY} = ''") > 0:
            return
        merge = table.merge_insert(KEY).when_not_matched_insert_all().use_index(False)
        try:
            merge.execute(with_common_row(table.schema.empty_table()), on_bad_vectors="null")
        except LANCE_ERRORS:
            if attempt == _ATTEMPTS - 1:
                raise
