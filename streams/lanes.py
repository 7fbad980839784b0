"""The lanes of a list: what each asks of the catalogue, and what it then offers."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.candidates import Fallback, Lane
from schemas.user_state import UserState
from streams.crowd import Crowd, Ranking
from streams.policy import RetrievalSettings
from streams.quotas import prior, quotas, shares
from streams.retriever import Described, Float32s, Found, Int32s, Request, Retriever
from streams.retriever import Lane as Wanted

Positions = npt.NDArray[np.intp]

RUNGS: tuple[Fallback, ...] = ("none", "any_attribute", "uncertain", "co_watched", "popular", "newest")
"""The fallback ladder, by the number of a rung."""
ANY_ATTRIBUTE, UNCERTAIN, _CO_WATCHED, _POPULAR, _NEWEST = range(1, 6)


@dataclass(frozen=True)
class Plan:
    """A list before the search: its places, what is asked for, and what the crowd says to its user.

    The lanes of the request: the newest, each attribute of `quotas`, and where there is a taste or a crowd the nearest,
    the best of the crowd, and new videos. `index` numbers the attributes.
    """

    request: Request
    quotas: dict[str, int]
    shares: Float32s
    ranking: Ranking | None
    draws: np.random.Generator | None
    index: dict[str, int]


class Pool(NamedTuple):
    """What one lane offers: positions among the found, their scores and rungs; as many `places` as it should have."""

    lane: Lane
    attribute: str | None
    places: int
    members: Positions
    scores: Float32s
    rungs: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Offered:
    """All that was found for a list, each video once, what is known of it, and the pools that offer it."""

    rows: Int32s
    known: Described
    cosine: Float32s
    popularity: Float32s
    lift: Float32s
    draw: Float32s
    pools: list[Pool]


def plan(
    retriever: Retriever,
    state: UserState | None,
    settings: RetrievalSettings,
    now_ms: int,
    rng: Random,
    crowd: Crowd | None,
) -> Plan:
    """Return what to search for."""
    catalogue = retriever.catalogue
    expected = prior(catalogue, settings, crowd)
    by_attribute = quotas(state, catalogue, settings, rng, expected)
    share = shares(state, expected, settings)
    vector = _taste(state, retriever.dim)
    seen = retriever.rows(state.seen if state else ())
    lanes = [Wanted(settings.k * (1 + settings.overfetch), newest=True)]
    lanes += [Wanted(n * settings.overfetch, attribute=attribute) for attribute, n in by_attribute.items()]
    if vector is not None:
        left = settings.k - sum(by_attribute.values())
        lanes.append(Wanted(settings.k + left * settings.overfetch))  # the others may take k of them
    ranking = draws = None
    if crowd is not None and len(crowd):
        ranking = crowd.rank(seen, settings.k * settings.crowd_fetch, settings.lift_weight)
        lanes.append(Wanted(len(ranking.best), among=ranking.best))
    if crowd is not None:
        draws = np.random.Generator(np.random.PCG64(rng.getrandbits(64)))
        recent = retriever.uploaded_since(now_ms - settings.new_age_ms)
        if len(recent) > settings.new_sample:
            step = len(recent) // settings.new_sample
            recent = recent[int(draws.integers(step)) :: step][: settings.new_sample]
        lanes.append(Wanted(len(recent), among=recent))
    request = Request(vector, lanes, seen, settings.languages, settings.probability_weight)
    return Plan(
        request,
        by_attribute,
        np.array([share.get(attribute, 0.0) for attribute in catalogue.ids], np.float32),
        ranking,
        draws,
        {attribute: i for i, attribute in enumerate(catalogue.ids)},
    )


def _taste(state: UserState | None, dim: int) -> Float32s | None:
    """Return the user's taste, L2-normalised; None where there is none that fits."""
    taste = np.frombuffer(state.taste if state else b"", "<f2").astype(np.float32)
    norm = float(np.linalg.norm(taste))
    if taste.size != dim or not np.isfinite(norm) or norm == 0.0:
        return None
    return taste / np.float32(norm)


def offer(retriever: Retriever, plan: Plan, found: Found, settings: RetrievalSettings, crowd: Crowd | None) -> Offered:
    """Return what the lanes offer of what was found."""
    rows, at = np.unique(found.rows, return_inverse=True)
    by_lane = np.split(at, found.bounds[1:-1])
    known = retriever.describe(rows)
    zeros = np.zeros(len(rows), np.float32)
    popularity, lift = plan.ranking.of(rows) if plan.ranking else (zeros, zeros)
    weight = np.float32(settings.quality_weight)
    vector = plan.request.vector
    offered = Offered(
        rows=rows,
        known=known,
        cosine=zeros if vector is None else known.vectors @ vector,
        popularity=weight * popularity,
        lift=weight * lift,
        draw=zeros.copy(),
        pools=[],
    )
    score = offered.cosine + offered.popularity + offered.lift
    newest = by_lane[0]
    chosen = [plan.index[attribute] for attribute in plan.quotas]
    planned = [_restricted(offered, score, a, plan.index[a], chosen, n, settings) for a, n in plan.quotas.items()]
    reserves: list[Pool] = []
    if crowd is None:
        planned.append(_pool("newest", int(settings.k * settings.newest_share), newest, offered.cosine))
    else:
        planned.append(_new(plan, offered, by_lane[-1], settings, crowd))
        for pool, rung in zip(_behaviour(offered, settings), (_CO_WATCHED, _POPULAR), strict=True):
            planned.append(pool)
            reserves.append(pool._replace(places=0, rungs=np.full(len(pool.members), rung, np.uint8)))
    if vector is not None or plan.ranking is not None:
        left = settings.k - sum(pool.places for pool in planned)
        planned.append(_best("unrestricted", left, np.arange(len(rows)), score, settings.k + left * settings.overfetch))
    reserves.append(_pool("newest", len(newest), newest, offered.cosine, _NEWEST)._replace(places=0))
    offered.pools.extend(pool for pool in planned if pool.places)
    offered.pools.extend(reserves)
    return offered


def _behaviour(offered: Offered, settings: RetrievalSettings) -> tuple[Pool, Pool]:
    """Return what is watched by users of the same watches, and what is popular, with these all the more."""
    co_watched, popular = np.flatnonzero(offered.lift > 0), np.flatnonzero(offered.popularity > 0)
    most = 2 * settings.k
    tilted = offered.popularity + 2 * offered.lift  # by the lift alone these were videos that hardly anybody watches
    return (
        _best("co_watched", int(settings.k * settings.co_watched_share), co_watched, tilted, most),
        _best("popular", int(settings.k * settings.popular_share), popular, offered.popularity + offered.lift, most),
    )


def _pool(lane: Lane, places: int, members: Positions, scores: Float32s, rung: int = 0) -> Pool:
    """Return a pool of members in their order; `scores` are of all that was found."""
    places = min(places, len(members))
    return Pool(lane, None, places, members, scores[members], np.full(len(members), rung, np.uint8))


def _best(lane: Lane, places: int, members: Positions, scores: Float32s, most: int) -> Pool:
    return _pool(lane, places, _ordered(members, scores, most), scores)


def _ordered(members: Positions, scores: Any, most: int) -> Positions:
    """Return the `most` highest, best first, of equals the earlier."""
    worth = -scores[members]
    if len(members) > most:
        part = np.sort(np.argpartition(worth, most)[:most])
        members, worth = members[part], worth[part]
    return members[np.argsort(worth, kind="stable")]


def _restricted(
    offered: Offered,
    score: Float32s,
    attribute: str,
    index: int,
    chosen: Sequence[int],
    places: int,
    settings: RetrievalSettings,
) -> Pool:
    """Return the pool of an attribute: certified videos that have it, and where these are few, the ladder's rungs."""
    certified, most = offered.known.certified, max(settings.k, places * settings.overfetch)  # others may take k of them
    weighted = (score + settings.probability_weight * offered.known.log_p[:, index]).astype(np.float32)
    rungs = [_ordered(np.flatnonzero(certified[:, index]), weighted, most)]
    scores: list[Float32s] = [weighted[rungs[0]]]
    enough = places * settings.thin
    if len(rungs[0]) < enough:
        others = ~certified[:, index] & certified[:, chosen].any(axis=1)
        rungs.append(_ordered(np.flatnonzero(others), score, most))
        scores.append(score[rungs[1]])
        if len(rungs[0]) + len(rungs[1]) < enough:
            probable = offered.known.log_p[:, index] >= np.log(settings.uncertain_p)
            probable &= offered.known.open[:, index]
            probable |= offered.known.present[:, index] & ~certified[:, index]
            probable &= ~others
            rungs.append(_ordered(np.flatnonzero(probable), weighted, most))
            scores.append(weighted[rungs[2]])
    numbers = np.repeat(np.arange(len(rungs), dtype=np.uint8), [len(rung) for rung in rungs])
    return Pool("restricted", attribute, places, np.concatenate(rungs), np.concatenate(scores), numbers)


def _new(plan: Plan, offered: Offered, members: Positions, settings: RetrievalSettings, crowd: Crowd) -> Pool:
    """Return the lane of new videos: Thompson sampling of their satisfaction, each shrunk towards that of all."""
    watches, satisfied = crowd.impressions(offered.rows[members])
    few = watches < settings.new_impressions
    members, watches, satisfied = members[few], watches[few], np.minimum(satisfied[few], watches[few])
    prior, rate = settings.prior_impressions, min(max(crowd.rate, 1e-3), 1 - 1e-3)
    if plan.draws is not None:
        offered.draw[members] = plan.draws.beta(prior * rate + satisfied, prior * (1 - rate) + watches - satisfied)
    places = int(settings.k * settings.newest_share)
    return _best("new", places, members, offered.draw, 2 * settings.k)
