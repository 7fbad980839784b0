"""The lanes of a list: what each asks of the catalogue, and what it then offers."""

import math
from dataclasses import dataclass
from random import Random
from typing import get_args

import numpy as np

from schemas.candidates import Fallback, Lane
from schemas.user_state import UserState
from streams.crowd import Crowd, Ranking
from streams.policy import RetrievalSettings
from streams.pools import Labels, Lanes, Parts, Pools, Rules, fill_parts, fill_pools, pools_for
from streams.quotas import Prior, prior, quotas, shares
from streams.retriever import Described, Float32s, Found, Int32s, Request, Retriever, distinct, no_rows
from streams.retriever import Lane as Wanted
from streams.seen import SeenRows

LANES: tuple[Lane, ...] = get_args(Lane)
RUNGS: tuple[Fallback, ...] = get_args(Fallback)
"""The fallback ladder, by the number of a rung."""


@dataclass(frozen=True)
class Plan:
    """A list before the search: its places, what is asked for, and what the crowd says to its user.

    The lanes of the request: the newest, each attribute of `quotas`, and where there is a taste or a crowd the nearest,
    the best of the crowd, and new videos. `new` are rows of these, of which the last lane takes the first, and `draws`
    Thompson samples of how satisfying each is, the highest first. `index` numbers the attributes.
    """

    request: Request
    quotas: dict[str, int]
    shares: Float32s
    ranking: Ranking | None
    new: Int32s
    draws: Float32s
    index: dict[str, int]


@dataclass(frozen=True)
class Offered:
    """All that was found for a list, each video once and in order, what is known of it, and the pools that offer it."""

    rows: Int32s
    known: Described
    parts: Parts
    pools: Pools
    count: int
    """Of pools."""


@dataclass(frozen=True)
class Run:
    """What the lists that are made together have in common.

    `recent` are the rows of new videos, oldest first, and `index` numbers the attributes.
    """

    retriever: Retriever
    seen: SeenRows
    settings: RetrievalSettings
    crowd: Crowd | None
    expected: Prior
    recent: Int32s
    index: dict[str, int]


def run_of(
    retriever: Retriever, settings: RetrievalSettings, now_ms: int, crowd: Crowd | None, seen: SeenRows | None
) -> Run:
    """Return what lists have in common that are made now."""
    return Run(
        retriever,
        seen or SeenRows(retriever),
        settings,
        crowd,
        prior(retriever.catalogue, settings, crowd),
        no_rows() if crowd is None else retriever.uploaded_since(now_ms - settings.new_age_ms),
        {attribute: i for i, attribute in enumerate(retriever.catalogue.ids)},
    )


def plan(run: Run, state: UserState | None, rng: Random) -> Plan:
    """Return what to search for."""
    retriever, settings, crowd = run.retriever, run.settings, run.crowd
    share = shares(state, run.expected, settings)
    by_attribute = quotas(state, retriever.catalogue, settings, rng, run.expected, share)
    vector = _taste(state, retriever.dim)
    seen = run.seen.of(state)
    # A reserve, of which more is fetched where it runs out; without a taste it is most of what there is to offer.
    lanes = [Wanted(settings.k * (1 + settings.overfetch) if vector is None else settings.k, newest=True)]
    lanes += [Wanted(n * settings.overfetch, attribute=attribute) for attribute, n in by_attribute.items()]
    if vector is not None:
        left = settings.k - sum(by_attribute.values())
        lanes.append(Wanted(settings.k + left * settings.overfetch))  # the others may take k of them
    ranking, new, draws = None, no_rows(), np.empty(0, np.float32)
    if crowd is not None and len(crowd):
        ranking = crowd.rank(seen, settings.k * settings.crowd_fetch, settings.lift_weight)
        lanes.append(Wanted(len(ranking.best), among=ranking.best))
    if crowd is not None:
        new, draws = _new(run.recent, crowd, settings, rng)
        lanes.append(Wanted(_places_for_new(settings) * settings.overfetch, among=new))
    request = Request(
        vector, lanes, seen, settings.languages, settings.probability_weight, state.user_id if state else ""
    )
    return Plan(
        request,
        by_attribute,
        np.array([share.get(attribute, 0.0) for attribute in run.index], np.float32),
        ranking,
        new,
        draws,
        run.index,
    )


def _taste(state: UserState | None, dim: int) -> Float32s | None:
    """Return the user's taste, L2-normalised; None where there is none that fits."""
    taste = np.frombuffer(state.taste if state else b"", "<f2").astype(np.float32)
    norm = float(np.linalg.norm(taste))
    if taste.size != dim or not np.isfinite(norm) or norm == 0.0:
        return None
    return taste / np.float32(norm)


def offer(run: Run, plan: Plan, found: Found) -> Offered:
    """Return what the lanes offer of what was found."""
    retriever, settings, crowd = run.retriever, run.settings, run.crowd
    rows = distinct(found.rows)
    first, last = int(found.bounds[1]), int(found.bounds[-2])
    newest = np.searchsorted(rows, found.rows[:first])
    known = retriever.describe(rows)
    parts = Parts(*(np.empty(len(rows), np.float32) for _ in Parts._fields))
    vector = np.empty(0, np.float32) if plan.request.vector is None else plan.request.vector
    popularity = lift = np.zeros(len(rows), np.float32)
    if crowd is not None and plan.ranking is not None:
        popularity, lift = crowd.qualities(plan.ranking, rows)
    fill_parts(known.vectors, vector, popularity, lift, np.float32(settings.quality_weight), parts)
    new = np.empty(0, np.int64)
    if crowd is not None:
        new = np.searchsorted(rows, found.rows[last:])
        by_row = np.argsort(plan.new)
        parts.draw[new] = plan.draws[by_row[np.searchsorted(plan.new, found.rows[last:], sorter=by_row)]]
    lanes = Lanes(
        attributes=np.array([plan.index[attribute] for attribute in plan.quotas], np.int64),
        places=np.array(list(plan.quotas.values()), np.int64),
        newest=newest,
        new=new,
    )
    k = settings.k
    rules = Rules(
        k=k,
        overfetch=settings.overfetch,
        thin=settings.thin,
        popular=int(k * settings.popular_share),
        co_watched=int(k * settings.co_watched_share),
        new=_places_for_new(settings),
        weight=float(settings.probability_weight),
        uncertain_log_p=math.log(settings.uncertain_p),
        crowd=crowd is not None,
        unrestricted=len(vector) > 0 or plan.ranking is not None,
    )
    pools = pools_for(lanes, rules, len(rows))
    labels = Labels(known.present, known.open, known.certified, known.log_p)
    return Offered(rows, known, parts, pools, fill_pools(parts, labels, lanes, rules, pools))


def _new(recent: Int32s, crowd: Crowd, settings: RetrievalSettings, rng: Random) -> tuple[Int32s, Float32s]:
    """Return new videos that few watched, of a sample, and a draw of how satisfying each is, the highest first.

    What is known of one is shrunk towards the rate of all.
    """
    draws = np.random.Generator(np.random.PCG64(rng.getrandbits(64)))
    if len(recent) > settings.new_sample:
        step = len(recent) // settings.new_sample
        recent = recent[int(draws.integers(step)) :: step][: settings.new_sample]
    watches, satisfied = crowd.impressions(recent)
    few = watches < settings.new_impressions
    rows, watches, satisfied = recent[few], watches[few], np.minimum(satisfied[few], watches[few])
    prior, rate = settings.prior_impressions, min(max(crowd.rate, 1e-3), 1 - 1e-3)
    drawn = draws.beta(prior * rate + satisfied, prior * (1 - rate) + watches - satisfied).astype(np.float32)
    best = np.argsort(-drawn, kind="stable")
    return rows[best], drawn[best]


def _places_for_new(settings: RetrievalSettings) -> int:
    return int(settings.k * settings.newest_share)
