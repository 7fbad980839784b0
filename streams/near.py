"""What lay near the tastes of users when it was last looked for: few rows in the place of a whole catalogue.

Between two lists a taste moves little, and no row's cosine changes by more than the taste has moved (Cauchy-Schwarz,
since both have length 1). So the best of a lane are still among those that were best before, if the last of them scores
more than any other row can have come to. Rows that have changed meanwhile are looked at as well. It is no part of any
result: where it can't tell, the catalogue is searched.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streams.compiled import compiled
from streams.heaps import keep_best, order
from streams.recent import keep
from streams.retriever import Float32s, Int32s, no_rows
from streams.scan import ANY, CERTIFIED, INEXACT, Rows, bounds_of, cosine, cosines, fetch, holds
from streams.search import NEWEST, Hits, LaneOf, Query, first_of, scanned

_TIMES = 4
_LEAST = 48
"""So many times what a list fetches of a lane is kept, or at least so many rows: the more, the further a taste may move
before they are looked for again, and the more there is to look at each time."""

_LAST = 8
_AHEAD = 16
_SLACK = 0.015
"""How much lower the rows to keep may score when they are looked for again: a guess, which costs a second search if it
is wrong, and spares the first most of its looking closer."""


class _Search(NamedTuple):
    """By which vector a user's rows were looked for, among which, and when so many rows had changed."""

    vector: Float32s
    oldest_ms: int
    changes: int


class _Lane(NamedTuple):
    """The best rows of a lane, best first, by a search; all others scored `lowest` at most."""

    search: _Search
    rows: Int32s
    scores: Float32s
    lowest: float


class _Kept(NamedTuple):
    """The lanes of a user, end to end: the compiled code is handed few arrays, and little else takes memory."""

    places: dict[int, int]
    """Lanes by attribute."""
    searches: Sequence[_Search]
    by: npt.NDArray[np.intp]
    """The search of each lane."""
    rows: Int32s
    scores: Float32s
    bounds: npt.NDArray[np.int64]
    lowest: Float32s

    def lanes(self) -> dict[int, _Lane]:
        """Return the lanes by attribute."""
        return {
            attribute: _Lane(self.searches[by], self.rows[start:end], self.scores[start:end], lowest)
            for attribute, by, (start, end), lowest in zip(
                self.places, self.by.tolist(), pairwise(self.bounds.tolist()), self.lowest.tolist(), strict=True
            )
        }


def _kept(lanes: Mapping[int, _Lane]) -> _Kept:
    searches = {id(lane.search): lane.search for lane in lanes.values()}
    numbers = {search: number for number, search in enumerate(searches)}
    return _Kept(
        places={attribute: at for at, attribute in enumerate(lanes)},
        searches=list(searches.values()),
        by=np.array([numbers[id(lane.search)] for lane in lanes.values()], np.intp),
        rows=np.concatenate([lane.rows for lane in lanes.values()]),
        scores=np.concatenate([lane.scores for lane in lanes.values()]),
        bounds=bounds_of([len(lane.rows) for lane in lanes.values()]),
        lowest=np.array([lane.lowest for lane in lanes.values()], np.float32),
    )


class Changes:
    """The rows that changed last, up to `most`."""

    def __init__(self, most: int = 4_096) -> None:
        self._rows = np.zeros(most, np.int32)
        self.count = 0

    def note(self, rows: Int32s) -> None:
        """Note that rows were written."""
        most = len(self._rows)
        self._rows[np.arange(self.count, self.count + len(rows))[-most:] % most] = rows[-most:]
        self.count += len(rows)

    def since(self, count: int) -> Int32s | None:
        """Return the rows that changed since there were `count` changes, some twice; None where they are too many."""
        most = len(self._rows)
        if self.count - count > most:
            return None
        return self._rows[np.arange(count, self.count) % most]


class Near:
    """Rows near the users who were served last. Use it from one thread; it scans in another."""

    def __init__(self, users: int = 4_096) -> None:
        """Remember so many users, at about 16 KB each."""
        self._changes = Changes()
        self._most = users
        self._users: OrderedDict[object, _Kept] = OrderedDict()
        self._lowest: dict[int, deque[float]] = {}  # of the last users, by lane
        self._scanning = ThreadPoolExecutor(1, thread_name_prefix="scan")

    def changed(self, rows: Int32s) -> None:
        """Note that rows were written."""
        self._changes.note(rows)

    def search(
        self, rows: Rows, timeline: Int32s, present_counts: Sequence[int], queries: Sequence[Query], oldest_ms: int
    ) -> Iterator[tuple[int, list[Int32s]]]:
        """Yield the number of each query and the rows that each of its lanes finds, best first, as they are found.

        `seen` and `timeline` are in order. Eligible rows are those that were not uploaded before `oldest_ms`. What a
        user's lanes fetch is looked for among the rows near the user; where it can't be told from them, more rows are
        kept and looked at, and where many of these have been seen, the lane is searched by itself. Askers for whom
        that takes a scan come last: while it goes on, the caller has the others.
        """
        lanes = [
            (i, at)
            for i, query in enumerate(queries)
            for at, (attribute, _) in enumerate(query.lanes)
            if attribute >= ANY
        ]
        hits = self._look(rows, queries, lanes, oldest_ms)
        left = [lane for lane in lanes if lane not in hits]
        askers = {queries[i].asker for i, _ in left}
        late = [i for i, query in enumerate(queries) if query.asker in askers]
        early = [i for i, query in enumerate(queries) if query.asker not in askers]
        wide = [self._wide(query, present_counts) if i in late else query for i, query in enumerate(queries)]
        more = [(i, at) for i in late for at in range(len(queries[i].lanes), len(wide[i].lanes))]
        scan = partial(scanned, rows, wide, sorted(left + more), present_counts)
        scanning = self._scanning.submit(scan) if early and left else None
        try:
            yield from [(i, _rows_of(rows, timeline, queries[i], i, hits)) for i in early]
        finally:
            if scanning:
                wait([scanning])  # it reads what may change when this is left
        if not left:
            return
        found = scanning.result() if scanning else scan()
        self._keep(wide, {lane: own for lane, own in found.items() if wide[lane[0]].user is not None}, oldest_ms)
        hits |= {lane: own for lane, own in found.items() if wide[lane[0]].user is None}
        hits |= self._look(rows, queries, left, oldest_ms)
        hits |= scanned(rows, queries, [lane for lane in left if lane not in hits], present_counts)
        yield from [(i, _rows_of(rows, timeline, queries[i], i, hits)) for i in late]

    def _wide(self, query: Query, present_counts: Sequence[int]) -> Query:
        """Return a user's query for the rows to keep: more of each lane, seen or not. Nobody's stays as it is.

        That of a new user has lanes of other attributes too, up to as many again: the user's next lists will want them,
        and among so many they cost next to nothing.
        """
        if query.user is None:
            return query
        known = self._users.get(query.user)
        lanes = [(attribute, max(_LEAST, _TIMES * k)) for attribute, k in query.lanes]
        if known is None:
            asked = {attribute for attribute, _ in lanes}
            others = [attribute for attribute, count in enumerate(present_counts) if count and attribute not in asked]
            lanes += [(attribute, _LEAST) for attribute in others[: len(lanes)]]
        floors = [self._guess(attribute, known) for attribute, _ in lanes]
        return replace(query, lanes=lanes, seen=no_rows(), floors=floors)

    def _guess(self, lane: int, known: _Kept | None) -> float:
        """Return what the rows to keep may score: what they did before, or what the last users' did."""
        if known is not None and lane in known.places:
            return float(known.lowest[known.places[lane]]) - _SLACK
        return min(self._lowest.get(lane, [-np.inf])) - _SLACK

    def _keep(self, wide: Sequence[Query], found: Mapping[LaneOf, Hits], oldest_ms: int) -> None:
        for i, own in groupby(found.items(), lambda item: item[0][0]):
            known = self._users.get(wide[i].user)
            lanes = {} if known is None else known.lanes()
            search = _Search(wide[i].vector, oldest_ms, self._changes.count)
            for (_, at), (rows, scores) in own:
                attribute, k = wide[i].lanes[at]
                lowest = float(scores[-1]) if len(rows) == k else -np.inf
                lanes[attribute] = _Lane(search, rows, scores, lowest)
                self._lowest.setdefault(attribute, deque(maxlen=_LAST)).append(lowest)
            keep(self._users, wide[i].user, _kept(lanes), self._most)

    def _look(
        self, rows: Rows, queries: Sequence[Query], lanes: Iterable[LaneOf], oldest_ms: int
    ) -> dict[LaneOf, Hits]:
        """Return the hits of those of `lanes`, in order, whose best are surely among the rows that were kept."""
        hits: dict[LaneOf, Hits] = {}
        for i, own in groupby(lanes, lambda lane: lane[0]):
            known = self._users.get(queries[i].user)
            if known is None:
                continue
            self._users.move_to_end(queries[i].user)
            usable = [search.oldest_ms <= oldest_ms for search in known.searches]
            places = {at: known.places.get(queries[i].lanes[at][0]) for _, at in own}
            lanes_of = {at: place for at, place in places.items() if place is not None and usable[known.by[place]]}
            for at, found in self._looked(rows, queries[i], known, lanes_of):
                hits[i, at] = found
        return hits

    def _looked(self, rows: Rows, query: Query, known: _Kept, lanes: Mapping[int, int]) -> Iterable[tuple[int, Hits]]:
        """Look at the rows that are kept of lanes of the query, which are given with their places."""
        places = np.fromiter(lanes.values(), np.intp, len(lanes))
        by = known.by[places]
        changed = self._changes.since(min((known.searches[number].changes for number in by.tolist()), default=0))
        if not lanes or changed is None:
            return
        wanted = [query.lanes[at] for at in lanes]
        room = bounds_of([k for _, k in wanted])
        scores, found = np.zeros(int(room[-1]), np.float32), np.zeros(int(room[-1]), np.int32)
        sizes, lowest = np.zeros(len(lanes), np.int64), known.lowest[places]
        moved = np.array([np.linalg.norm(query.vector - search.vector) for search in known.searches], np.float32)
        among = KeptLanes(
            rows=known.rows,
            scores=known.scores,
            starts=known.bounds[places],
            ends=known.bounds[places + 1],
            lowest=lowest,
            moved=moved[by] + np.float32(INEXACT),
            attributes=np.array([attribute for attribute, _ in wanted], np.int64),
            changed=changed,
        )
        weight = np.float32(query.weight)
        look(rows, among, query.vector, weight, query.spoken, query.seen, room, scores, found, sizes)
        for at, (_, k), start, size, least in zip(
            lanes, wanted, room.tolist(), sizes.tolist(), lowest.tolist(), strict=False
        ):
            if size == k or least == -np.inf:
                yield at, (found[start : start + size], scores[start : start + size])


def _rows_of(rows: Rows, timeline: Int32s, query: Query, number: int, hits: Mapping[LaneOf, Hits]) -> list[Int32s]:
    """Return the rows that each lane of a query finds."""
    return [
        hits[number, at][0]
        if attribute >= ANY
        else first_of(rows, query, timeline if attribute == NEWEST else query.among[at], k)
        for at, (attribute, k) in enumerate(query.lanes)
    ]


class KeptLanes(NamedTuple):
    """Rows that were kept, the lanes to look at, and the rows that have changed, which may be there twice."""

    rows: Any
    scores: Any
    starts: Any
    """int64 [lanes]: where in `rows` a lane begins."""
    ends: Any
    lowest: Any
    """float32 [lanes]"""
    moved: Any
    """float32 [lanes]: by how much a score may have risen."""
    attributes: Any
    changed: Any


@compiled
def look(
    rows: Rows, among: KeptLanes, vector: Any, weight: Any, spoken: Any, seen: Any,
    heaps: Any, scores: Any, found: Any, sizes: Any,
) -> None:  # fmt: skip
    """Fill the heaps `scores`, `found` and `sizes` of each lane, in order, with the best that no other row can beat."""
    # As plain arrays: taken from a tuple within a loop, each would be counted as one more reference every time.
    high, low, scales, p, logs = rows.high, rows.low, rows.scales, rows.p, rows.logs
    marks, languages, eligible = rows.marks, rows.languages, rows.eligible
    kept, before, changed = among.rows, among.scores, among.changed
    new = np.empty(len(changed), np.float32)
    cosines(high, low, scales, vector, changed, new)
    most = len(logs) - 1
    for lane in range(len(among.attributes)):
        attribute, moved, first, end = among.attributes[lane], among.moved[lane], among.starts[lane], among.ends[lane]
        floor, start, room, size = among.lowest[lane] + moved, heaps[lane], heaps[lane + 1] - heaps[lane], 0
        for at in range(first - len(changed), end):  # those that have changed come before those that were kept
            if at < first:
                row, score = changed[at - first], new[at - first]
            else:
                if size == room and before[at] + moved < scores[start]:
                    break  # and so it is with all that follow
                if at + _AHEAD < end:
                    fetch(high, low, scales, kept[at + _AHEAD])
                row = kept[at]
                score = cosine(high, low, scales, vector, row)
            if score > floor and attribute != ANY:  # log p is never positive
                score += weight * logs[min(p[row, attribute], most)]
                if not marks[row, attribute] & CERTIFIED:
                    continue
            served = spoken[languages[row]] and (eligible[row >> 6] >> np.uint64(row & 63)) & np.uint64(1) != 0
            if score <= floor or not served or holds(seen, row):
                continue
            if len(changed) == 0 or not _is_there(found, start, size, row):
                size = keep_best(scores, found, start, size, room, score, row)
        order(scores, found, start, size)
        sizes[lane] = size


@compiled
def _is_there(found: Any, start: int, size: int, row: Any) -> bool:
    there = False
    for at in range(start, start + size):
        there |= found[at] == row
    return there
