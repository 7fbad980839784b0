"""The indexes of an attribute table that searching it takes."""

from collections.abc import Callable, Iterator
from typing import Any

from lancedb.index import Bitmap, BTree, IvfSq
from lancedb.table import Table

from streams.attribute_table import AttributeTable
from streams.table_schema import KEY

_ATTEMPTS = 5  # whoever compacts the table meanwhile may win
_FEW_ROWS = 10_000  # are scanned as fast


def make_indexes(table: AttributeTable) -> Iterator[str]:
    """Make what is missing, and the index of vectors anew; yield the name of each column when its index is there.

    Rows that are written later are found without being in it; AttributeTable.compact takes them in. The partitions of
    vectors stay as they were made: make them anew when the table has grown several fold.

    Raises:
        StoreUnavailable: an index could not be made, or not in time.

    """
    attributes = table.catalogue.ids
    bitmaps = ["language", *(f"{kind}_{attribute}" for attribute in attributes for kind in ("label", "certified"))]
    configs: dict[str, Any] = dict.fromkeys((KEY, "uploaded_at_ms", "received_at_ms"), BTree())
    configs |= dict.fromkeys(bitmaps, Bitmap())
    known = {column for index in table.ask(lambda of: of.list_indices()) for column in index.columns}
    for column, config in configs.items():
        if column not in known:
            table.ask(_making(column, config))
            yield column
    rows = table.ask(lambda of: of.count_rows("vector IS NOT NULL"))
    if rows >= _FEW_ROWS:
        table.ask(_making("vector", IvfSq(distance_type="cosine", num_partitions=max(1, int(rows**0.5) // 2))))
        yield "vector"


def _making(column: str, config: Any) -> Callable[[Table], None]:
    def make(table: Table) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                table.create_index(column, config=config)
                return
            except (OSError, RuntimeError):
                if attempt == _ATTEMPTS - 1:
                    raise
                table.checkout_latest()

    return make
