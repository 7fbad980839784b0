"""A search of rows: queries become a plan, the plan one scan, and the scan hits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from streams.coarse import DENSE
from streams.intrinsics import CHUNK
from streams.names import Int32s
from streams.retriever import Float32s
from streams.scan import ANY, BLOCK_BYTES, INEXACT, SPARSE_BYTES, Plan, Rows, bounds_of, newest, rank, scan
from streams.vectors import to_codes

Hits = tuple[Int32s, Float32s]
"""Rows and their scores, best first."""

LaneOf = tuple[int, int]
"""The number of a query, and that of a lane in it."""

NEWEST = -2
AMONG = -3
_APART = 32
"""A lane is scanned apart if its rows, squared, are fewer than this times what it fetches times all rows.

The best of few rows score low, so that a lane of few would look at most of what the others scan. The number is about
where a scan of its own costs as much as that.
"""


@dataclass(frozen=True)
class Query:
    """A request in numbers; `lanes` are (index of the attribute, or ANY, NEWEST, AMONG; videos to fetch).

    `among` are the rows of the lanes that are AMONG some, by the lane's position, the first of them last. `user` names
    whose query it is, and how it scores and filters; None: nobody's. `floors`, if any, are guesses of scores that the
    best of each lane are above: they change what a search costs, and not what it finds. Those of one `asker` are
    answered in order.
    """

    vector: Float32s
    weight: float
    lanes: Sequence[tuple[int, int]]
    seen: Int32s
    spoken: npt.NDArray[np.bool_]
    among: Mapping[int, Int32s]
    user: object = None
    floors: Sequence[float] = ()
    asker: str = ""


def scanned(
    rows: Rows, queries: Sequence[Query], lanes: Sequence[LaneOf], present_counts: Sequence[int]
) -> dict[LaneOf, Hits]:
    """Return the hits of `lanes`, in order.

    They fetch half as many again as they are asked for by the codes alone, which the whole vectors then put in order.
    """
    hits = _above_guesses(rows, queries, lanes, present_counts)
    # Where a guess was too high, what lies below it was left out: these are looked for without.
    again = [(i, at) for i, at in lanes if not _complete(queries[i], at, hits[i, at][1])]
    if again:
        plain = [replace(query, floors=()) for query in queries]
        hits |= _above_guesses(rows, plain, again, present_counts)
    return hits


def _complete(query: Query, lane: int, scores: Float32s) -> bool:
    """Tell whether a lane found its best: what was left out for a guess of scores lies below all that was found."""
    floor, k = _floor(query, lane), query.lanes[lane][1]
    return floor == -np.inf or (len(scores) == k and scores[-1] >= floor + INEXACT)


def _floor(query: Query, lane: int) -> float:
    return query.floors[lane] if query.floors else -np.inf


def _above_guesses(
    rows: Rows, queries: Sequence[Query], lanes: Sequence[LaneOf], present_counts: Sequence[int]
) -> dict[LaneOf, Hits]:
    """Do so for what is above the guesses of scores."""
    count = 64 * len(rows.eligible)
    groups = [
        (i, group)
        for i, own in groupby(lanes, lambda lane: lane[0])
        for group in _groups(queries[i], [at for _, at in own], present_counts, count)
    ]
    if not groups:
        return {}
    ordered = [(i, at) for i, group in groups for at in group]
    room = [_room(queries[i].lanes[at][1], count) for i, at in ordered]
    plan = _plan(rows, queries, groups, ordered, room)
    scores = np.zeros(sum(room), np.float32)
    found = np.zeros(sum(room), np.int32)
    sizes = np.zeros(len(ordered), np.int64)
    block_bytes = (
        SPARSE_BYTES
        if all(_is_sparse(queries[i], group, present_counts, count) for i, group in groups)
        else BLOCK_BYTES
    )
    scan(rows, plan, (0,) * (rows.high.shape[1] // CHUNK), block_bytes, scores, found, sizes)
    rank(rows, plan, scores, found, sizes)
    hits: dict[LaneOf, Hits] = {}
    for (i, at), start, size in zip(ordered, plan.heap_bounds.tolist(), sizes.tolist(), strict=False):
        end = start + min(size, queries[i].lanes[at][1])
        hits[i, at] = found[start:end], scores[start:end]
    return hits


def first_of(rows: Rows, query: Query, timeline: Int32s, k: int) -> Int32s:
    """Return the last `k` rows of `timeline` that may be served."""
    found = np.empty(min(k, len(timeline)), np.int32)
    return found[: newest(rows, query.spoken, query.seen, timeline, found)]


def _groups(query: Query, lanes: Sequence[int], present_counts: Sequence[int], rows: int) -> list[list[int]]:
    together: list[int] = []
    apart: list[list[int]] = []
    for at in lanes:
        attribute, k = query.lanes[at]
        if attribute == ANY or present_counts[attribute] ** 2 > _APART * k * rows:
            together.append(at)
        else:
            apart.append([at])
    return [together, *apart] if together else apart


def _is_sparse(query: Query, group: Sequence[int], present_counts: Sequence[int], rows: int) -> bool:
    attributes = [query.lanes[at][0] for at in group]
    return ANY not in attributes and DENSE * sum(present_counts[a] for a in attributes) <= rows


def _room(k: int, rows: int) -> int:
    return max(1, min(k + k // 2 + 16, rows))


def _plan(
    rows: Rows,
    queries: Sequence[Query],
    groups: Sequence[tuple[int, list[int]]],
    lanes: Sequence[LaneOf],
    room: Sequence[int],
) -> Plan:
    vectors = np.array([query.vector for query in queries], np.float32)
    codes, units = to_codes(vectors, rows.high.shape[1])
    return Plan(
        codes=codes,
        vectors=vectors,
        units=units * np.float32(256),
        weights=np.array([query.weight for query in queries], np.float32),
        spoken=np.array([query.spoken for query in queries], np.bool_),
        seen=np.concatenate([query.seen for query in queries]),
        seen_bounds=bounds_of([len(query.seen) for query in queries]),
        owners=np.array([i for i, _ in groups], np.int64),
        group_bounds=bounds_of([len(group) for _, group in groups]),
        attributes=np.array([queries[i].lanes[at][0] for i, at in lanes], np.int64),
        heap_bounds=bounds_of(room),
        floors=np.array([_floor(queries[i], at) for i, at in lanes], np.float32),
    )
