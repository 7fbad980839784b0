"""The compiled part of making pools: what each lane of a list offers of what was found."""

from typing import Any, NamedTuple

import numpy as np

from streams.compiled import compiled
from streams.sorting import descending, highest

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
    """int64: positions of new videos that few have watched, the highest draw first."""


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
    certified, worth, ends = _certified(score, labels, lanes, np.float32(rules.weight))
    count, left = 0, k
    for i in range(len(lanes.attributes)):
        own = certified[i, : ends[i]], worth[i, : ends[i]]
        end = _restricted(own, score, by_score, labels, lanes, rules, i, pools, bounds[count])
        count = _close(pools, count, end, RESTRICTED, lanes.attributes[i], lanes.places[i])
        left -= lanes.places[i]
    co_watched, popular = parts.lift > 0, parts.popularity > 0
    if rules.crowd:
        end = _placed(lanes.new, parts.draw[lanes.new], 0, pools, bounds[count])
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
        end = _placed(lanes.newest, parts.cosine[lanes.newest], 0, pools, bounds[count])
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
    end = _placed(lanes.newest, parts.cosine[lanes.newest], BY_AGE, pools, bounds[count])
    return _reserve(pools, count, end, NEWEST)


@compiled
def _certified(score: Any, labels: Labels, lanes: Lanes, weight: Any) -> Any:
    """Return the positions that are certified for each lane and their worth [lanes, n], best first, and how many.

    Their worth is their score and `weight` times log p. All lanes are sorted at once, and what is known of a position
    lies side by side.
    """
    certified, log_p, attributes = labels.certified, labels.log_p, lanes.attributes
    n, count, total = len(score), len(attributes), 0
    lane_of, at_of, worth_of = (
        np.empty(n * count, np.int64), np.empty(n * count, np.int64), np.empty(n * count, np.float32)
    )  # fmt: skip
    for at in range(n):
        for lane in range(count):
            if certified[at, attributes[lane]]:
                lane_of[total], at_of[total] = lane, at
                worth_of[total] = score[at] + weight * log_p[at, attributes[lane]]
                total += 1
    positions, worth = np.empty((count, n), np.int64), np.empty((count, n), np.float32)
    ends = np.zeros(count, np.int64)
    for i in descending(worth_of[:total]):
        lane = lane_of[i]
        positions[lane, ends[lane]], worth[lane, ends[lane]] = at_of[i], worth_of[i]
        ends[lane] += 1
    return positions, worth, ends


@compiled
def _restricted(
    own: Any, score: Any, order_: Any, labels: Labels, lanes: Lanes, rules: Rules, lane: int, pools: Pools, start: int
) -> int:
    """Add the rungs of a lane, with `own` positions and their worth; return where they end."""
    attribute, places = lanes.attributes[lane], lanes.places[lane]
    certified, log_p = labels.certified[:, attribute], labels.log_p[:, attribute]
    n, most, enough = len(score), max(rules.k, places * rules.overfetch), places * rules.thin
    positions, worth = own
    end = _placed(positions[:most], worth[:most], 0, pools, start)
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
    positions = np.flatnonzero(probable)
    worth = score[positions] + np.float32(rules.weight) * log_p[positions]
    best = highest(worth, most)
    return _placed(positions[best], worth[best], UNCERTAIN, pools, end)


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
def _placed(positions: Any, worth: Any, rung: int, pools: Pools, start: int) -> int:
    """Add a rung of positions in their own order; return where it ends."""
    end = start + len(positions)
    pools.members[start:end], pools.scores[start:end], pools.rungs[start:end] = positions, worth, rung
    return end


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
