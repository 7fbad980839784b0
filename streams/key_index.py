"""The B-tree on the key of a table, by which merges find what they replace without a scan of all keys.

It has parts: a large one, one of what came since that was made, and small ones of the last merges. A merge looks into
all of them, and scans what is in none.
"""

from typing import Any

from lancedb.index import BTree
from lancedb.table import Table

from streams.table_schema import KEY

_FROM_ROWS = 500_000
"""Below, the scan is as cheap: by an index Lance reads whole rows of what it replaces; see docs/benchmarks."""
_SINCE = 8  # the large part is made anew, 0.2 s per million rows, when an eighth has come since


def keep_key_index(table: Table) -> None:
    """Take all rows into the index and its small parts into one; make it if there is none and the table is large."""
    name = _name(table)
    if name is None:
        if table.count_rows() >= _FROM_ROWS:
            table.create_index(KEY, config=BTree())
        return
    dataset: Any = table.to_lance()
    large, *since = dataset.stats.index_stats(name)["num_indexed_rows_per_delta"]
    merged = len(since) + 1 if sum(since) * _SINCE > large else len(since)
    dataset.optimize.optimize_indices(index_names=[name], num_indices_to_merge=merged)


def index_new_keys(table: Table) -> None:
    """Take new rows into the index, if there is one, as a part of their own: some 15 ms, however large the table is."""
    name = _name(table)
    if name is not None:
        table.to_lance().optimize.optimize_indices(index_names=[name], num_indices_to_merge=0)
        table.checkout_latest()


def _name(table: Table) -> str | None:
    return next((index.name for index in table.list_indices() if list(index.columns) == [KEY]), None)
