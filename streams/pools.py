"""The compiled part of making pools: what each lane of a list offers of what was found."""

from typing import Any, NamedTuple

import numpy as np

from streams.compiled import compiled
from streams.heaps import keep_best, order

RESTRICTED, UNRESTRICTED, POPULAR, CO_WATCHED, NEW, NEWEST = range(6)
"""Lanes by number: the order of `schemas.candidates.Lane`."""

ANY_ATTRIBUTE, UNCERTAIN, BY_CO_WATCHES, BY_POPULARITY, BY_AGE = range(1, 6)
"""Rungs of the fallback ladder by number: the order of `schemas.candidates.Fallback`; 0 for none."""


class Parts(NamedTuple):
    """What scores are the sum of, by position, float32 [n]."""

    cosine: Any
    popularity: Any
    lift: Any
    draw: Any


class Labels(NamedTuple):
    """What is known of attributes, by position [n, attributes]: see Described."""

    present: Any
    open: Any
    certified: Any
    log_p: Any


class Lanes(NamedTuple):
    """What a list has lanes for."""

    attributes: Any
    """int64: by number, of the restricted lane."""
    places: Any
    """int64: of each of these attributes."""
    newest: Any
    """int64: positions, the latest first."""
    new: Any
    """int64: positions of new videos that few have watched."""


class Rules(NamedTuple):
    """The rules of pools: see RetrievalSettings, whose shares are places here."""

    k: int
    overfetch: int
    thin: int
    popular: int
    co_watched: int
    new: int
    weight: float
    uncertain_log_p: float
    crowd: bool
    unrestricted: bool


class Pools(NamedTuple):
    """What the lanes offer, pool after pool; the first fields as in blend.Offers."""

    members: Any
    """int64: positions, best first within a rung."""
    scores: Any
    rungs: Any
    bounds: Any
    places: Any
    lanes: Any
    """uint8 [pools]"""
    attributes: Any
    """int64 [pools]: by number, negative for none."""


def pools_for(lanes: Lanes, rules: Rules, n: int) -> Pools:
    """Return room for the pools of a list of `n` positions."""
    most = np.minimum(n, np.maximum(rules.k, lanes.places * rules.overfetch))
    # Three rungs of an attribute; the rest are at most twice k, but the unrestricted and the newest as a reserve.
    room = 3 * int(most.sum()) + min(n, 2 * rules.k) * 6 + min(n, rules.k * (1 + rules.overfetch))
    room += 2 * len(lanes.newest)
    count = len(lanes.attributes) + 7
    return Pools(
        members=np.empty(room, np.int64),
        scores=np.empty(room, np.float32),
        rungs=np.empty(room, np.uint8),
        bounds=np.zeros(count + 1, np.int64),
        places=np.zeros(count, np.int64),
        lanes=np.zeros(count, np.uint8),
        attributes=np.full(count, -1, np.int64),
    )


@compiled
def fill_parts(vectors: Any, vector: Any, popularity: Any, lift: Any, weight: Any, parts: Parts) -> None:
    """Set the parts but the draw, which is set to 0; without numbers `vector` is none.

    `popularity` and `lift` are worth `weight`.
    """
    for i in range(len(vectors)):
        cosine = np.float32(0.0)
        for d in range(len(vector)):
            cosine += vectors[i, d] * vector[d]
        parts.cosine[i] = cosine
        parts.popularity[i] = weight * popularity[i]
        parts.lift[i] = weight * lift[i]
        parts.draw[i] = np.float32(0.0)


@compiled
def descending(scores: Any) -> Any:
    """Return positions, the highest score first, of equals the earlier: a radix sort of three passes."""
    n = len(scores)
    keys = (scores + np.float32(0.0)).view(np.uint32)  # there is no negative zero after it
    for i in range(n):
        if keys[i] < np.uint32(0x8000_0000):
            keys[i] = np.uint32(0x7FFF_FFFF) - keys[i]
    order_, sorted_ = np.arange(n), np.empty(n, np.int64)
    for shift in (0, 11, 22):
        starts = np.zeros(2049, np.int64)
        for key in keys:
            starts[((key >> np.uint32(shift)) & np.uint32(2047)) + 1] += 1
        for i in range(2048):
            starts[i + 1] += starts[i]
        for at in order_:
            digit = (keys[at] >> np.uint32(shift)) & np.uint32(2047)
            sorted_[starts[digit]] = at
            starts[digit] += 1
        order_, sorted_ = sorted_, order_
    return order_


@compiled
def fill_pools(parts: Parts, labels: Labels, lanes: Lanes, rules: Rules, pools: Pools) -> int:
    """Fill `pools`, the reserves last; return how many there are.

    An attribute's pool has the certified videos that have it, and where these are fewer than `thin` times its places,
    the rungs of the ladder: those with another of the list's attributes, and those that probably have it. What is
    co-watched is in the order of popularity and twice the lift: by the lift alone it were videos that hardly anybody
    watches.
    """
    bounds = pools.bounds
    k, n = rules.k, len(parts.cosine)
    score = parts.cosine + parts.popularity + parts.lift
    quality = parts.popularity + parts.lift
    tilted = parts.popularity + np.float32(2.0) * parts.lift
    by_score, by_quality, by_tilt = descending(score), descending(quality), descending(tilted)
    count, left = 0, k
    for i in range(len(lanes.attributes)):
        end = _restricted(score, by_score, labels, lanes, rules, i, pools, bounds[count])
        count = _close(pools, count, end, RESTRICTED, lanes.attributes[i], lanes.places[i])
        left -= lanes.places[i]
    co_watched, popular = parts.lift > 0, parts.popularity > 0
    if rules.crowd:
        end = _listed(lanes.new, parts.draw, 2 * k, pools, bounds[count])
        places = min(rules.new, end - bounds[count])
        left -= places
        count = _close(pools, count, end, NEW, -1, places)
        end = _taken(by_tilt, co_watched, tilted, 2 * k, 0, pools, bounds[count])
        places = min(rules.co_watched, end - bounds[count])
        left -= places
        count = _close(pools, count, end, CO_WATCHED, -1, places)
        end = _taken(by_quality, popular, quality, 2 * k, 0, pools, bounds[count])
        places = min(rules.popular, end - bounds[count])
        left -= places
        count = _close(pools, count, end, POPULAR, -1, places)
    else:
        end = _in_order(lanes.newest, parts.cosine, 0, pools, bounds[count])
        places = min(rules.new, end - bounds[count])
        left -= places
        count = _close(pools, count, end, NEWEST, -1, places)
    if rules.unrestricted:
        all_of_them = np.ones(n, np.bool_)
        end = _taken(by_score, all_of_them, score, k + left * rules.overfetch, 0, pools, bounds[count])
        count = _close(pools, count, end, UNRESTRICTED, -1, min(left, end - bounds[count]))
    if rules.crowd:
        end = _taken(by_tilt, co_watched, tilted, 2 * k, BY_CO_WATCHES, pools, bounds[count])
        count = _reserve(pools, count, end, CO_WATCHED)
        end = _taken(by_quality, popular, quality, 2 * k, BY_POPULARITY, pools, bounds[count])
        count = _reserve(pools, count, end, POPULAR)
    end = _in_order(lanes.newest, parts.cosine, BY_AGE, pools, bounds[count])
    return _reserve(pools, count, end, NEWEST)


@compiled
def _restricted(
    score: Any, order_: Any, labels: Labels, lanes: Lanes, rules: Rules, lane: int, pools: Pools, start: int
) -> int:
    attribute, places = lanes.attributes[lane], lanes.places[lane]
    certified, log_p = labels.certified[:, attribute], labels.log_p[:, attribute]
    n, most, enough = len(score), max(rules.k, places * rules.overfetch), places * rules.thin
    weight = np.float32(rules.weight)
    end = _weighted(order_, certified, score, log_p, weight, most, 0, pools, start)
    if end - start >= enough:
        return end
    others = np.zeros(n, np.bool_)
    for at in range(n):
        if not certified[at]:
            for other in lanes.attributes:
                others[at] |= labels.certified[at, other]
    end = _taken(order_, others, score, most, ANY_ATTRIBUTE, pools, end)
    if end - start >= enough:
        return end
    probable = np.zeros(n, np.bool_)
    for at in range(n):
        if not others[at]:
            likely = labels.open[at, attribute] and log_p[at] >= np.float32(rules.uncertain_log_p)
            probable[at] = likely or (labels.present[at, attribute] and not certified[at])
    return _weighted(order_, probable, score, log_p, weight, most, UNCERTAIN, pools, end)


@compiled
def _taken(order_: Any, taken: Any, worth: Any, most: int, rung: int, pools: Pools, start: int) -> int:
    """Add a rung of the first `most` in an order that are `taken`; return where it ends."""
    members, scores, rungs = pools.members, pools.scores, pools.rungs
    end = start
    for at in order_:
        if end == start + most:
            break
        if taken[at]:
            members[end], scores[end], rungs[end] = at, worth[at], rung
            end += 1
    return end


@compiled
def _weighted(
    order_: Any, taken: Any, score: Any, log_p: Any, weight: Any, most: int, rung: int, pools: Pools, start: int
) -> int:
    """Do so by score and `weight` times log p. As log p is never positive, the order by score is nearly that one."""
    members, scores, rungs = pools.members, pools.scores, pools.rungs
    end = start
    for at in order_:
        if end == start + most and score[at] < scores[end - 1]:
            break
        if not taken[at]:
            continue
        worth = score[at] + weight * log_p[at]
        place = end
        while place > start and (worth > scores[place - 1] or (worth == scores[place - 1] and at < members[place - 1])):
            place -= 1
        if place == start + most:
            continue
        end = min(end + 1, start + most)
        for later in range(end - 1, place, -1):
            members[later], scores[later] = members[later - 1], scores[later - 1]
        members[place], scores[place] = at, worth
    rungs[start:end] = rung
    return end


@compiled
def _listed(positions: Any, worth: Any, most: int, pools: Pools, start: int) -> int:
    """Add a rung of the `most` of `positions` with the highest worth."""
    members, scores, rungs = pools.members, pools.scores, pools.rungs
    size = 0
    for at in positions:
        size = keep_best(scores, members, start, size, most, worth[at], at)
    order(scores, members, start, size)
    rungs[start : start + size] = 0
    return start + size


@compiled
def _in_order(positions: Any, worth: Any, rung: int, pools: Pools, start: int) -> int:
    """Add a rung of positions in their own order."""
    members, scores, rungs = pools.members, pools.scores, pools.rungs
    for i in range(len(positions)):
        members[start + i] = positions[i]
        scores[start + i] = worth[positions[i]]
        rungs[start + i] = rung
    return start + len(positions)


@compiled
def _close(pools: Pools, count: int, end: int, lane: int, attribute: int, places: int) -> int:
    """Close a pool; one without places offers nothing. Return how many pools there are."""
    if places <= 0:
        return count
    pools.bounds[count + 1] = end
    pools.places[count] = places
    pools.lanes[count] = lane
    pools.attributes[count] = attribute
    return count + 1


@compiled
def _reserve(pools: Pools, count: int, end: int, lane: int) -> int:
    """Close a pool that only fills what the others can't."""
    pools.bounds[count + 1] = end
    pools.places[count] = 0
    pools.lanes[count] = lane
    pools.attributes[count] = -1
    return count + 1
