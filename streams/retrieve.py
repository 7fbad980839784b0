"""Attribute-restricted retrieval: affinities set quotas, lanes find videos, a blend keeps the list open."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import numpy.typing as npt

from schemas.candidates import Candidate, Fallback, ScoreParts
from schemas.user_state import UserState
from streams.blend import Limits, Offers, blend
from streams.crowd import Crowd
from streams.filters import refusals
from streams.lanes import LANES, RUNGS, Offered, Plan, Run, offer, plan, run_of
from streams.policy import RetrievalSettings
from streams.pools import (
    ANY_ATTRIBUTE,
    BY_AGE,
    CO_WATCHED,
    NEW,
    NEWEST,
    POPULAR,
    RESTRICTED,
    UNCERTAIN,
    UNRESTRICTED,
)
from streams.retriever import Found, Retriever
from streams.retriever import Lane as Wanted
from streams.seen import SeenRows


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
    [(_, made)] = retrieve_all(retriever, [(state, rng)], settings, now_ms, crowd)
    return made


def retrieve_all(
    retriever: Retriever,
    users: Sequence[tuple[UserState | None, Random]],
    settings: RetrievalSettings,
    now_ms: int,
    crowd: Crowd | None = None,
    seen: SeenRows | None = None,
) -> Iterator[tuple[int, Retrieved]]:
    """Search for all users at once, and yield by their number what `retrieve` returns, one after another.

    Those that need no scan come first, and are made while that of the others goes on; those of one user stay in order.
    Of a list that is done with at once nothing is left when the next is made: a run of them would fill the caches.
    `seen` spares it looking up what it remembers.
    """
    run = run_of(retriever, settings, now_ms, crowd, seen)
    plans = [plan(run, state, rng) for state, rng in users]
    oldest_ms = now_ms - settings.max_age_ms
    found = retriever.search([of.request for of in plans], oldest_ms)
    return ((i, _retrieved(run, plans[i], hits, oldest_ms)) for i, hits in found)


def _retrieved(run: Run, of: Plan, found: Found, oldest_ms: int) -> Retrieved:
    retriever, settings = run.retriever, run.settings
    offered, filled = _filled(run, of, found)
    fetched = of.request.lanes[0].k
    while len(filled.chosen) < settings.k and found.bounds[1] == fetched:
        fetched *= 4  # a few creators with many new videos must not leave the list short
        first = replace(of.request, lanes=[Wanted(fetched, newest=True)])
        [(_, more)] = retriever.search([first], oldest_ms)
        found = _with_first(more, found)
        offered, filled = _filled(run, of, found)
    deepest = int(offered.pools.rungs[filled.chosen].max()) if len(filled.chosen) else BY_AGE
    return Retrieved(
        candidates=_candidates(retriever, of, offered, filled),
        quotas=of.quotas,
        removed=found.removed | filled.removed,
        fallback=RUNGS[deepest],
    )


def _with_first(more: Found, found: Found) -> Found:
    """Return what was found with another first lane."""
    first = int(found.bounds[1])
    return Found(
        rows=np.concatenate([more.rows, found.rows[first:]]),
        bounds=np.append(0, found.bounds[1:] - first + len(more.rows)),
        removed=found.removed,
    )


@dataclass(frozen=True)
class _Filled:
    """A list: for each place where its video stands in the pools, and the pool; and what was refused."""

    chosen: npt.NDArray[np.int64]
    by: npt.NDArray[np.int64]
    removed: dict[str, int]


def _filled(run: Run, of: Plan, found: Found) -> tuple[Offered, _Filled]:
    settings, offered = run.settings, offer(run, of, found)
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
    for video_id, position, lane, attribute, rung, p, (score, *own) in zip(
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
        made.append(Candidate(video_id, score, LANES[lane], name, rung == UNCERTAIN, _WHY[lane](p, *own)))
    return tuple(made)


_WHY: dict[int, Callable[[float, float, float, float, float], ScoreParts]] = {
    RESTRICTED: lambda p, cosine, popularity, lift, _: ScoreParts(cosine, p, popularity, lift),
    UNRESTRICTED: lambda _, cosine, popularity, lift, __: ScoreParts(cosine, popularity=popularity, co_watched=lift),
    POPULAR: lambda _, __, popularity, lift, ___: ScoreParts(popularity=popularity, co_watched=lift),
    CO_WATCHED: lambda _, __, popularity, lift, ___: ScoreParts(popularity=popularity, co_watched=2 * lift),
    NEW: lambda _, __, ___, ____, draw: ScoreParts(draw=draw),
    NEWEST: lambda _, cosine, *__: ScoreParts(cosine),
}
"""The parts of a score by lane."""
