"""Attribute-restricted retrieval: affinities set quotas, lanes find videos, a blend keeps the list open."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import numpy.typing as npt

import streams.pools as pools_of
from schemas.candidates import Candidate, Fallback, ScoreParts
from schemas.user_state import UserState
from streams.blend import Limits, Offers, blend
from streams.crowd import Crowd
from streams.filters import refusals
from streams.lanes import LANES, RUNGS, Offered, Plan, offer, plan
from streams.policy import RetrievalSettings
from streams.pools import ANY_ATTRIBUTE, UNCERTAIN
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
    while len(filled.chosen) < settings.k and found.bounds[1] == fetched:
        fetched *= 4  # a few creators with many new videos must not leave the list short
        [more] = retriever.search([replace(of.request, lanes=[Wanted(fetched, newest=True)])], oldest_ms)
        found = _with_first(more, found)
        offered, filled = _filled(retriever, of, found, settings, crowd)
    candidates = _candidates(retriever, of, offered, filled)
    deepest = int(offered.pools.rungs[filled.chosen].max(initial=0)) if candidates else pools_of.BY_AGE
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
    """A list: for each place where its video stands in the pools, and the pool; and what was refused."""

    chosen: npt.NDArray[np.int64]
    by: npt.NDArray[np.int64]
    removed: dict[str, int]


def _filled(
    retriever: Retriever, of: Plan, found: Found, settings: RetrievalSettings, crowd: Crowd | None
) -> tuple[Offered, _Filled]:
    offered = offer(retriever, of, found, settings, crowd)
    pools, known = offered.pools, offered.known
    offers = Offers(
        vectors=known.vectors,
        has=known.present,
        creators=known.creators,
        members=pools.members,
        scores=pools.scores,
        rungs=pools.rungs,
        bounds=pools.bounds[: offered.count + 1],
        places=pools.places[: offered.count],
        shares=of.shares,
    )
    limits = Limits(
        settings.k, settings.creator_limit, settings.creator_window, float(settings.near_duplicate),
        float(settings.diversity), float(settings.calibration), settings.head,
    )  # fmt: skip
    chosen, by = np.empty(settings.k, np.int64), np.empty(settings.k, np.int64)
    refused = np.zeros(len(offered.rows), np.uint8)
    count = blend(offers, limits, chosen, by, refused)
    return offered, _Filled(chosen[:count], by[:count], refusals(refused))


def _candidates(retriever: Retriever, of: Plan, offered: Offered, filled: _Filled) -> tuple[Candidate, ...]:
    pools, parts, certified = offered.pools, offered.parts, offered.known.certified
    at = pools.members[filled.chosen]
    lanes, rungs = pools.lanes[filled.by], pools.rungs[filled.chosen]
    kept = np.stack([pools.scores[filled.chosen], *(part[at] for part in parts)], axis=1)
    kept = kept.astype(np.float64).round(4)
    score, cosine, popularity, lift, _ = kept.T
    probability = np.where(rungs == ANY_ATTRIBUTE, 0.0, (score - cosine - popularity - lift).round(4))
    attributes = list(of.index)
    made: list[Candidate] = []
    for video_id, position, lane, attribute, rung, p, (score, cosine, popularity, lift, draw) in zip(
        retriever.video_ids(offered.rows[at].tolist()),
        at.tolist(),
        lanes.tolist(),
        pools.attributes[filled.by].tolist(),
        rungs.tolist(),
        probability.tolist(),
        kept.tolist(),
        strict=True,
    ):
        name = attributes[attribute] if attribute >= 0 else None
        if rung == ANY_ATTRIBUTE:
            name = next(a for a in of.quotas if certified[position, of.index[a]])
        match lane:
            case pools_of.RESTRICTED:
                why = ScoreParts(cosine, p, popularity, lift)
            case pools_of.UNRESTRICTED:
                why = ScoreParts(cosine, popularity=popularity, co_watched=lift)
            case pools_of.POPULAR:
                why = ScoreParts(popularity=popularity, co_watched=lift)
            case pools_of.CO_WATCHED:
                why = ScoreParts(popularity=popularity, co_watched=2 * lift)
            case pools_of.NEW:
                why = ScoreParts(draw=draw)
            case _:
                why = ScoreParts(cosine)
        made.append(Candidate(video_id, score, LANES[lane], name, rung == UNCERTAIN, why))
    return tuple(made)
