"""Two who create a table at once: Lance may let the later one overwrite what the earlier one has written into it.

Its check that there is no table and the commit of the new one are two steps. A table just created that has an earlier
version is one that was overwritten, and Lance still has what it held.
"""

from datetime import timedelta

from lancedb.table import Table

from streams.common_row import merge_newest
from streams.table_schema import add_missing, with_nulls


def bring_back(table: Table, timeout: timedelta) -> None:
    """Merge the rows of all earlier versions of a table that was just created, the highest seq of each video."""
    newest = table.version
    for version in range(newest - 1, 0, -1):
        table.checkout(version)
        rows = table.to_arrow()
        table.checkout_latest()
        if rows.num_rows == 0:
            continue
        add_missing(table, rows.schema)
        merge_newest(table, with_nulls(rows, table.schema), timeout)
