"""What a retriever asks of the attribute tables: videos near a vector, the newest, the most probable, or by name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lancedb.query import ColumnOrdering
from lancedb.table import Table

from schemas.attributes import Catalogue
from streams.attribute_store import AttributeStore
from streams.common_row import IS_VIDEO
from streams.retriever import Float32s
from streams.shards import shard_of
from streams.table_schema import KEY

_NAMES = 1_000  # in one IN (...)


@dataclass(frozen=True)
class TableSettings:
    """How the attribute tables are searched, and what a worker keeps of them.

    An index is probed in at least `probes` partitions and, where a filter leaves too few, in all; `refine` times what
    is wanted is scored again by whole vectors. A request searches for its `nearest` videos once: where enough of them
    have an attribute, those are the nearest that have it. The `newest` videos are asked for again after `refresh_s`,
    and `sample` of the new ones drawn; what keeps videos out is counted again after `count_s`. More than `most_held`
    videos are forgotten; of those that nobody asked for yet, the latest `late` annotations are remembered.
    """

    probes: int = 20
    refine: int = 2
    nearest: int = 1_000
    newest: int = 500
    sample: int = 200
    refresh_s: float = 1.0
    count_s: float = 10.0
    most_held: int = 1_000_000
    late: int = 50_000


@dataclass(frozen=True, eq=False)
class Proposed:
    """Rows of the tables, best first: where they lie, whose they are, their seq, and whether they have `attributes`.

    `has` [attributes, n] is true where the attribute is present and certified.
    """

    shards: npt.NDArray[np.int64]
    places: npt.NDArray[np.uint64]
    video_ids: npt.NDArray[np.object_]
    seqs: npt.NDArray[np.int64]
    has: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """How many."""
        return len(self.seqs)

    def take(self, which: Any) -> "Proposed":
        """Return a part of them; `which` is an index of numpy's."""
        return Proposed(
            self.shards[which], self.places[which], self.video_ids[which], self.seqs[which], self.has[:, which]
        )


def servable(catalogue: Catalogue, languages: Sequence[str] | None) -> str:
    """Return the condition that a video is there, and that its policy attributes and its language allow it."""
    conditions = ["status <> 'removed'", *(f"label_{policy} = false" for policy in catalogue.policy_ids)]
    if languages is not None:
        conditions.append(speaks(languages))
    return " AND ".join(conditions)


def speaks(languages: Sequence[str]) -> str:
    """Return the condition that a video is in one of these languages."""
    return f"language IN ({_listed(languages)})" if languages else "false"


def not_before(ms: int) -> str:
    """Return the condition that a video was not uploaded before `ms`; it never was later than it was received."""
    return f"received_at_ms >= {ms} AND (uploaded_at_ms >= {ms} OR uploaded_at_ms IS NULL)"


def has(attribute: str) -> str:
    """Return the condition that a lane may take a video for an attribute."""
    return f"label_{attribute} = true AND certified_{attribute} = true"


def _listed(values: Sequence[str]) -> str:
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


class TableSearch:
    """Questions to a store, each to all its shards. Synchronous, each call within the store's deadline.

    All of them see the newest write, and raise StoreUnavailable where LanceDB fails or does not answer in time.
    """

    def __init__(self, store: AttributeStore, settings: TableSettings, columns: Sequence[str]) -> None:
        """`columns` are what `load` and `look_up` read."""
        self._store = store
        self._settings = settings
        self._columns = list(columns)

    def nearest(self, vector: Float32s, where: str, count: int, attributes: Sequence[str]) -> Proposed:
        """Return the `count` videos nearest by cosine, fewer only where no more meet the condition."""

        def near(table: Table) -> Any:
            query: Any = table.search(vector, vector_column_name="vector")
            return (
                query.distance_type("cosine")
                .where(where, prefilter=True)
                .minimum_nprobes(self._settings.probes)
                .maximum_nprobes(0)  # by default, less comes back than was asked for
                .refine_factor(self._settings.refine)
            )

        return self._ask(near, "_distance", True, count, attributes)

    def newest(self, where: str, count: int) -> Proposed:
        """Return the `count` videos uploaded last."""
        return self._ask(_ordered(where, "uploaded_at_ms"), "uploaded_at_ms", False, count)

    def probable(self, where: str, attribute: str, count: int) -> Proposed:
        """Return the `count` videos that the student finds most probable to have an attribute."""
        return self._ask(_ordered(where, f"p_{attribute}"), f"p_{attribute}", False, count)

    def some(self, where: str, count: int) -> Proposed:
        """Return up to `count` videos, whichever."""
        return self._ask(lambda of: of.search().where(where), "uploaded_at_ms", False, count)

    def removed(self, catalogue: Catalogue, languages: Sequence[str] | None, oldest_ms: int) -> dict[str, int]:
        """Return how many videos each reason keeps out, each for the first that holds; see Found."""
        present = "status <> 'removed' AND vector IS NOT NULL"
        allowed = f"{servable(catalogue, None)} AND vector IS NOT NULL"
        young = f"{allowed} AND {not_before(oldest_ms)}"
        left = [self._count(where) for where in (IS_VIDEO, present, allowed, young)]
        spoken = left[-1] if languages is None else self._count(f"{young} AND {speaks(languages)}")
        reasons = ("unavailable", "policy", "too_old", "language")
        return dict(zip(reasons, (before - after for before, after in pairwise([*left, spoken])), strict=True))

    def _count(self, where: str) -> int:
        return sum(table.ask(lambda of: of.count_rows(where)) for table in self._store.tables.values())

    def load(self, proposed: Proposed) -> Iterator[pa.RecordBatch]:
        """Yield the columns of rows that were found; of one that was written since, nothing."""
        for shard, table in self._store.tables.items():
            places = proposed.places[proposed.shards == shard].tolist()
            if places:
                yield from table.ask(partial(_taken, places, self._columns)).to_batches()

    def look_up(self, video_ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the columns of videos, in any order; of those that are not there nothing."""
        for shard, table in self._store.tables.items():
            names = [name for name in video_ids if shard_of(name, self._store.shards) == shard]
            for start in range(0, len(names), _NAMES):
                yield from table.ask(partial(_named, names[start : start + _NAMES], self._columns)).to_batches()

    def _ask(
        self, query: Callable[[Table], Any], by: str, ascending: bool, count: int, attributes: Sequence[str] = ()
    ) -> Proposed:
        columns = [
            KEY,
            "seq",
            by,
            *(f"{kind}_{attribute}" for attribute in attributes for kind in ("label", "certified")),
        ]
        parts: list[Any] = []
        for shard, table in self._store.tables.items():
            found: Any = table.ask(lambda of: query(of).limit(count).with_row_id(True).select(columns).to_arrow())
            parts.append(found.append_column("shard", pa.array(np.full(len(found), shard, np.int64))))
        rows = pa.concat_tables(parts)
        if len(parts) > 1:
            order = [(by, "ascending" if ascending else "descending")]
            rows = rows.sort_by(order)[:count]
        return Proposed(
            shards=rows["shard"].to_numpy(),
            places=rows["_rowid"].to_numpy(),
            video_ids=rows[KEY].to_numpy(),
            seqs=rows["seq"].to_numpy(),
            has=np.array([_both(rows, attribute) for attribute in attributes], np.bool_).reshape(
                len(attributes), len(rows)
            ),
        )


def _ordered(where: str, column: str) -> Callable[[Table], Any]:
    order = ColumnOrdering(column_name=column, ascending=False, nulls_first=False)
    return lambda table: table.search().where(where).order_by([order])


def _taken(places: list[int], columns: list[str], table: Table) -> Any:
    return table.take_row_ids(places).select(columns).to_arrow()


def _named(names: Sequence[str], columns: list[str], table: Table) -> Any:
    return table.search().where(f"{KEY} IN ({_listed(names)})").select(columns).limit(len(names)).to_arrow()


def _both(rows: Any, attribute: str) -> npt.NDArray[np.bool_]:
    label, certified = (rows[f"{kind}_{attribute}"].fill_null(False).to_numpy() for kind in ("label", "certified"))
    return label & certified
