"""The compiled part of filling a list: lanes take turns, and each offers what fits best of its next videos."""

from typing import Any, NamedTuple

import numpy as np

from streams.compiled import compiled, inlined

CREATOR_CAP = 1
NEAR_DUPLICATE = 2


class Offers(NamedTuple):
    """What may be placed, by position, and the pools that offer it."""

    vectors: Any
    """float32 [n, dim]: L2-normalised; zeros where there is none."""
    has: Any
    """bool [n, attributes]"""
    creators: Any
    """int32 [n]: negative where unknown."""
    members: Any
    """int32: positions, best first, pool after pool."""
    scores: Any
    """float32: of members, descending within a rung."""
    rungs: Any
    """uint8: of members, ascending within a pool; a pool's later rungs come when the earlier are used up."""
    bounds: Any
    """int64 [pools + 1] into members"""
    places: Any
    """int64 [pools]: 0 for a reserve, which only fills what the others can't, the first reserve first."""
    shares: Any
    """float32 [attributes]: what the list should have of each; they add up to 1, or all are 0."""


class Limits(NamedTuple):
    """The rules of a list: see RetrievalSettings."""

    k: int
    creator_limit: int
    creator_window: int
    near_duplicate: float
    diversity: float
    calibration: float
    head: int


@compiled
def blend(offers: Offers, limits: Limits, chosen: Any, pools: Any, refused: Any) -> int:
    """Fill `chosen` with places in `members`, and `pools`; return how many. `refused` [n]: why one is not in it.

    A near-duplicate of what is placed comes only when nothing else is left for the list.
    """
    # As plain arrays: taken from a tuple within a loop, each would be counted as one more reference every time.
    vectors, has, creators, members, scores, rungs, bounds, places, shares = offers
    n = len(creators)
    starts = bounds[:-1].copy()
    taken = np.zeros(len(places), np.int64)
    placed = np.empty(limits.k, np.int64)
    used = np.zeros(n, np.bool_)
    nearest = np.full(n, np.float32(-1.0))
    compared = np.zeros(n, np.int64)
    held = np.zeros(len(shares), np.float32)
    blocked = np.zeros(len(places), np.bool_)
    count = 0
    for strict in (True, False):
        starts[:] = bounds[:-1]
        blocked[:] = False
        while count < limits.k:
            pool = _turn(places, taken, blocked)
            if pool < 0:
                break
            at = _best(
                vectors, has, creators, members, scores, rungs, bounds, shares,
                limits, pool, starts, strict, placed, count, used, nearest, compared, held, refused,
            )  # fmt: skip
            if at < 0:
                blocked[pool] = True
                continue
            position = members[at]
            chosen[count], pools[count] = at, pool
            placed[count] = position
            used[position] = True
            refused[position] = 0
            taken[pool] += 1
            count += 1
            _hold(has, position, held)
            blocked[:] = False  # what the cap refused may come now
    return count


@inlined
def _turn(places: Any, taken: Any, blocked: Any) -> int:
    """Return the pool that is furthest behind its places, or the first reserve; -1 if none is left."""
    best, lowest = -1, np.inf
    for pool in range(len(places)):
        if blocked[pool] or taken[pool] >= places[pool]:
            continue
        turn = (taken[pool] + 0.5) / places[pool]
        if turn < lowest:
            best, lowest = pool, turn
    if best < 0:
        for pool in range(len(places)):
            if places[pool] == 0 and not blocked[pool]:
                return pool
    return best


@inlined
def _best(
    vectors: Any, has: Any, creators: Any, members: Any, scores: Any, rungs: Any, bounds: Any, shares: Any,
    limits: Limits, pool: int, starts: Any, strict: bool, placed: Any, count: int,
    used: Any, nearest: Any, compared: Any, held: Any, refused: Any,
) -> int:  # fmt: skip
    """Return where in `members` the pool's next video stands, -1 if it has none now."""
    best, highest, seen, rung, leading = -1, -np.inf, 0, -1, True
    in_order = limits.diversity >= 1.0 and limits.calibration <= 0.0
    for at in range(starts[pool], bounds[pool + 1]):
        position = members[at]
        if rung >= 0 and rungs[at] != rung:
            break
        if used[position]:
            if leading:
                starts[pool] = at + 1
            continue
        leading = False
        reason = _refusal(vectors, creators, limits, position, strict, placed, count, nearest, compared)
        if reason != 0:
            refused[position] = reason
            continue
        rung = rungs[at]
        seen += 1
        value = _value(has, shares, limits, position, scores[at], nearest[position], held, count)
        if value > highest:
            best, highest = at, value
        if in_order or seen == limits.head:
            break
    return best


@inlined
def _refusal(
    vectors: Any, creators: Any, limits: Limits, position: int, strict: bool, placed: Any, count: int,
    nearest: Any, compared: Any,
) -> int:  # fmt: skip
    if limits.near_duplicate < 1.0 or limits.diversity < 1.0:
        _compare(vectors, position, placed, count, nearest, compared)
    if strict and limits.near_duplicate < 1.0 and nearest[position] > limits.near_duplicate:
        return NEAR_DUPLICATE
    if crowded(creators, placed, count, creators[position], limits.creator_limit, limits.creator_window):
        return CREATOR_CAP
    return 0


@inlined
def _value(
    has: Any, shares: Any, limits: Limits, position: int, score: Any, nearest: Any, held: Any, count: int
) -> Any:
    """Return the maximal marginal relevance of a video, and what it does for the list's calibration."""
    value = limits.diversity * score
    if limits.diversity < 1.0:
        value -= (1.0 - limits.diversity) * max(nearest, np.float32(0.0))
    if limits.calibration > 0.0:
        value += limits.calibration * _lacking(has, position, shares, held, count)
    return value


@inlined
def crowded(creators: Any, placed: Any, count: int, creator: int, limit: int, window: int) -> bool:
    """Tell whether the last places of a window hold `limit` of a creator already; an unknown one is never crowded."""
    if creator < 0:
        return False
    same = 0
    for at in range(max(0, count - window + 1), count):
        same += creators[placed[at]] == creator
    return same >= limit


@inlined
def _compare(vectors: Any, position: int, placed: Any, count: int, nearest: Any, compared: Any) -> None:
    """Bring a video's highest cosine to what is placed up to date: each pair is looked at once, and few are."""
    vector, at, highest = vectors[position], compared[position], nearest[position]
    while at + 4 <= count:  # a processor adds several sums at once, and one alone waits for itself
        first, second, third, fourth = (
            vectors[placed[at]], vectors[placed[at + 1]], vectors[placed[at + 2]], vectors[placed[at + 3]],
        )  # fmt: skip
        a = b = c = e = np.float32(0.0)
        for d in range(len(vector)):
            a += vector[d] * first[d]
            b += vector[d] * second[d]
            c += vector[d] * third[d]
            e += vector[d] * fourth[d]
        highest = max(highest, a, b, c, e)
        at += 4
    while at < count:
        other, product = vectors[placed[at]], np.float32(0.0)
        for d in range(len(vector)):
            product += vector[d] * other[d]
        highest = max(highest, product)
        at += 1
    nearest[position] = highest
    compared[position] = count


@inlined
def _lacking(has: Any, position: int, shares: Any, held: Any, count: int) -> Any:
    """Return how much the list lacks of a video's attributes: the mean of share less what the list has."""
    lack, attributes = np.float32(0.0), 0
    for a in range(len(shares)):
        if has[position, a]:
            lack += shares[a] - held[a] / max(1, count)
            attributes += 1
    return lack / max(1, attributes)


@inlined
def _hold(has: Any, position: int, held: Any) -> None:
    attributes = 0
    for a in range(len(held)):
        attributes += has[position, a]
    for a in range(len(held)):
        if has[position, a]:
            held[a] += np.float32(1.0) / attributes
