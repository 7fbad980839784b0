"""Attribute-restricted retrieval: affinities set quotas, lanes find videos, a blend keeps the list open."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from schemas.candidates import Candidate, Fallback, ScoreParts
from schemas.user_state import UserState
from streams.blend import Limits, Offers, blend
from streams.crowd import Crowd
from streams.filters import refusals
from streams.lanes import ANY_ATTRIBUTE, RUNGS, UNCERTAIN, Offered, Plan, Pool, offer, plan
from streams.policy import RetrievalSettings
from streams.retriever import Found, Retriever
from streams.retriever import Lane as Wanted


@dataclass(frozen=True)
class Retrieved:
    """Candidates, best first; places by attribute; removed videos by reason; and the last resort that was taken."""

    candidates: tuple[Candidate, ...]
    quotas: dict[str, int]
    removed: dict[str, int]
    fallback: Fallback


def retrieve(
    retriever: Retriever,
    state: UserState | None,
    settings: RetrievalSettings,
    now_ms: int,
    rng: Random,
    crowd: Crowd | None = None,
) -> Retrieved:
    """Return candidates for a user (None: nothing is known) from the catalogue as it is.

    The same catalogue, state, crowd, `now_ms` and state of `rng` give the same list. Where lanes can't fill their
    places, the fallback ladder does, and `fallback` says how far down. Without a crowd nothing is popular, co-watched
    or tried out as new, and the newest take the places of the new.
    """
    [made] = retrieve_all(retriever, [(state, rng)], settings, now_ms, crowd)
    return made


def retrieve_all(
    retriever: Retriever,
    users: Sequence[tuple[UserState | None, Random]],
    settings: RetrievalSettings,
    now_ms: int,
    crowd: Crowd | None = None,
) -> list[Retrieved]:
    """Return what `retrieve` returns for each user, by one search."""
    plans = [plan(retriever, state, settings, now_ms, rng, crowd) for state, rng in users]
    oldest_ms = now_ms - settings.max_age_ms
    found = retriever.search([of.request for of in plans], oldest_ms)
    return [_retrieved(retriever, of, hits, settings, oldest_ms, crowd) for of, hits in zip(plans, found, strict=True)]


def _retrieved(
    retriever: Retriever, of: Plan, found: Found, settings: RetrievalSettings, oldest_ms: int, crowd: Crowd | None
) -> Retrieved:
    offered, filled = _filled(retriever, of, found, settings, crowd)
    fetched = of.request.lanes[0].k
    while len(filled.members) < settings.k and found.bounds[1] == fetched:
        fetched *= 4  # a few creators with many new videos must not leave the list short
        [more] = retriever.search([replace(of.request, lanes=[Wanted(fetched, newest=True)])], oldest_ms)
        found = _with_first(more, found)
        offered, filled = _filled(retriever, of, found, settings, crowd)
    candidates = _candidates(retriever, of, offered, filled)
    deepest = max((pool.rungs[at] for pool, at in filled.members), default=RUNGS.index("newest"))
    return Retrieved(
        candidates=candidates,
        quotas=of.quotas,
        removed=found.removed | filled.removed,
        fallback=RUNGS[deepest],
    )


def _with_first(more: Found, found: Found) -> Found:
    """Return what was found with another first lane."""
    first = int(found.bounds[1])
    return Found(
        rows=np.concatenate([more.rows, found.rows[first:]]),
        scores=np.concatenate([more.scores, found.scores[first:]]),
        bounds=np.append(0, found.bounds[1:] - first + len(more.rows)),
        removed=found.removed,
    )


@dataclass(frozen=True)
class _Filled:
    """A list: for each place its pool, and where in that pool its video stands; and what was refused."""

    members: list[tuple[Pool, int]]
    removed: dict[str, int]


def _filled(
    retriever: Retriever, of: Plan, found: Found, settings: RetrievalSettings, crowd: Crowd | None
) -> tuple[Offered, _Filled]:
    offered = offer(retriever, of, found, settings, crowd)
    pools = offered.pools
    bounds = np.cumsum([0, *(len(pool.members) for pool in pools)])
    offers = Offers(
        vectors=offered.known.vectors,
        has=offered.known.present,
        creators=offered.known.creators,
        members=np.concatenate([pool.members for pool in pools]),
        scores=np.concatenate([pool.scores for pool in pools]),
        rungs=np.concatenate([pool.rungs for pool in pools]),
        bounds=bounds,
        places=np.array([pool.places for pool in pools], np.int64),
        shares=of.shares,
    )
    limits = Limits(
        settings.k, settings.creator_limit, settings.creator_window, float(settings.near_duplicate),
        float(settings.diversity), float(settings.calibration), settings.head,
    )  # fmt: skip
    chosen, by = np.empty(settings.k, np.int64), np.empty(settings.k, np.int64)
    refused = np.zeros(len(offered.rows), np.uint8)
    count = blend(offers, limits, chosen, by, refused)
    inside = chosen[:count] - bounds[by[:count]]
    members = [(pools[pool], at) for pool, at in zip(by[:count].tolist(), inside.tolist(), strict=True)]
    return offered, _Filled(members, refusals(refused))


def _candidates(retriever: Retriever, of: Plan, offered: Offered, filled: _Filled) -> tuple[Candidate, ...]:
    at = np.array([pool.members[at] for pool, at in filled.members], np.intp)
    video_ids = retriever.video_ids(offered.rows[at].tolist())
    parts = np.stack([offered.cosine[at], offered.popularity[at], offered.lift[at], offered.draw[at]], axis=1)
    made: list[Candidate] = []
    for video_id, position, (pool, member), known in zip(
        video_ids, at.tolist(), filled.members, parts.astype(np.float64).round(4).tolist(), strict=True
    ):
        rung = int(pool.rungs[member])
        attribute = pool.attribute
        if rung == ANY_ATTRIBUTE:
            attribute = next(a for a in of.quotas if offered.known.certified[position, of.index[a]])
        cosine, popularity, lift, draw = known
        score = round(float(pool.scores[member]), 4)
        match pool.lane:
            case "restricted":
                probability = 0.0 if rung == ANY_ATTRIBUTE else round(score - cosine - popularity - lift, 4)
                why = ScoreParts(cosine, probability, popularity, lift)
            case "unrestricted":
                why = ScoreParts(cosine, 0.0, popularity, lift)
            case "popular":
                why = ScoreParts(0.0, 0.0, popularity, lift)
            case "co_watched":
                why = ScoreParts(0.0, 0.0, popularity, 2 * lift)
            case "new":
                why = ScoreParts(draw=draw)
            case "newest":
                why = ScoreParts(cosine)
        made.append(Candidate(video_id, score, pool.lane, attribute, rung == UNCERTAIN, why))
    return tuple(made)
