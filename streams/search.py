"""A search of rows: queries become a plan, the plan one scan, and the scan hits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from streams.intrinsics import CHUNK
from streams.names import Int32s
from streams.retriever import Float32s
from streams.scan import ANY, Plan, Rows, cosines, newest, rank, scan
from streams.vectors import to_codes

Hits = tuple[Int32s, Float32s]
"""Rows and their scores, best first."""

NEWEST = -2
AMONG = -3
_APART = 32
"""A lane is scanned apart if its rows, squared, are fewer than this times what it fetches times all rows.

The best of few rows score low, so that a lane of few would look at most of what the others scan. The number is about
where a scan of its own costs as much as that.
"""

_INEXACT = 0.005
"""More than a score by 8-bit codes is off."""


@dataclass(frozen=True)
class Query:
    """A request in numbers; `lanes` are (index of the attribute, or ANY, NEWEST, AMONG; videos to fetch).

    `among` are the rows of the lanes that are AMONG some, by the lane's position, the first of them last.
    """

    vector: Float32s
    weight: float
    lanes: Sequence[tuple[int, int]]
    seen: Int32s
    spoken: npt.NDArray[np.bool_]
    floors: Sequence[float]
    among: Mapping[int, Int32s]


def search(rows: Rows, timeline: Int32s, present_counts: Sequence[int], queries: Sequence[Query]) -> list[list[Hits]]:
    """Return the hits of each lane of each query; `seen` and `timeline` are in order.

    Lanes fetch half as many again as they are asked for by the codes alone, which the whole vectors then put in order.
    """
    count = 64 * len(rows.eligible)
    groups = [(i, group) for i, query in enumerate(queries) for group in _groups(query, present_counts, count)]
    hits, plan = _scanned(rows, queries, groups, count)
    # Where a guess was too high, what lies below it was left out: these are looked for without.
    again = [
        (i, missing)
        for i, group in groups
        if (missing := [at for at in group if not _complete(queries[i], at, hits[i, at][1])])
    ]
    if again:
        plain = [replace(query, floors=[-np.inf] * len(query.lanes)) for query in queries]
        hits.update(_scanned(rows, plain, again, count)[0])
    for i, query in enumerate(queries):
        for at, (attribute, k) in enumerate(query.lanes):
            if attribute == NEWEST:
                hits[i, at] = _newest(rows, plan, timeline, i, k)
            elif attribute == AMONG:
                hits[i, at] = _newest(rows, plan, query.among[at], i, k)
    return [[hits[i, at] for at in range(len(query.lanes))] for i, query in enumerate(queries)]


def _complete(query: Query, lane: int, scores: Float32s) -> bool:
    """Tell whether a lane found its best: what was left out for a guess of scores lies below all that was found."""
    floor, k = query.floors[lane], query.lanes[lane][1]
    return floor == -np.inf or (len(scores) == k and scores[-1] >= floor + _INEXACT)


def _scanned(
    rows: Rows, queries: Sequence[Query], groups: Sequence[tuple[int, list[int]]], count: int
) -> tuple[dict[tuple[int, int], Hits], Plan]:
    lanes = [(i, at) for i, group in groups for at in group]
    room = [_room(queries[i].lanes[at][1], count) for i, at in lanes]
    plan = _plan(rows, queries, groups, lanes, room)
    scores = np.zeros(sum(room), np.float32)
    found = np.zeros(sum(room), np.int32)
    sizes = np.zeros(len(lanes), np.int64)
    if lanes:
        scan(rows, plan, (0,) * (rows.high.shape[1] // CHUNK), scores, found, sizes)
        rank(rows, plan, scores, found, sizes)
    hits: dict[tuple[int, int], Hits] = {}
    for (i, at), start, size in zip(lanes, plan.heap_bounds.tolist(), sizes.tolist(), strict=False):
        end = start + min(size, queries[i].lanes[at][1])
        hits[i, at] = found[start:end], scores[start:end]
    return hits, plan


def _newest(rows: Rows, plan: Plan, timeline: Int32s, request: int, k: int) -> Hits:
    found = np.empty(min(k, len(timeline)), np.int32)
    found = found[: newest(rows, plan, request, timeline, found)]
    scores = np.empty(len(found), np.float32)
    cosines(rows.high, rows.low, rows.scales, plan.vectors[request], found, scores)
    return found, scores


def _groups(query: Query, present_counts: Sequence[int], rows: int) -> list[list[int]]:
    together: list[int] = []
    apart: list[list[int]] = []
    for at, (attribute, k) in enumerate(query.lanes):
        if attribute == ANY or (attribute >= 0 and present_counts[attribute] ** 2 > _APART * k * rows):
            together.append(at)
        elif attribute >= 0:
            apart.append([at])
    return [together, *apart] if together else apart


def _room(k: int, rows: int) -> int:
    return max(1, min(k + k // 2 + 16, rows))


def _plan(
    rows: Rows,
    queries: Sequence[Query],
    groups: Sequence[tuple[int, list[int]]],
    lanes: Sequence[tuple[int, int]],
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
        seen_bounds=_bounds([len(query.seen) for query in queries]),
        owners=np.array([i for i, _ in groups], np.int64),
        group_bounds=_bounds([len(group) for _, group in groups]),
        attributes=np.array([queries[i].lanes[at][0] for i, at in lanes], np.int64),
        heap_bounds=_bounds(room),
        floors=np.array([queries[i].floors[at] for i, at in lanes], np.float32),
    )


def _bounds(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array([0, *accumulate(lengths)], np.int64)
