"""Attribute-restricted retrieval: affinities set quotas, lanes find videos, a blend keeps the list open."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
import numpy.typing as npt

from schemas.attributes import Catalogue
from schemas.candidates import Candidate, Fallback, Lane
from schemas.errors import ConfigurationError
from schemas.user_state import Affinity, UserState
from streams.filters import CreatorCap, Rows, apply_filters, policy, seen, too_old, unavailable
from streams.snapshot import Float32s, Snapshot

_NONE = Affinity(0.0, 0.0, 0.0, 0.0)
_LOWEST_P = 1e-3  # under the logarithm


@dataclass(frozen=True)
class RetrievalSettings:
    """How a list is made; the unrestricted lane gets the places that the other shares leave.

    `prior_*` shrink a user's own numbers: shares towards equal ones with the weight of so much satisfaction, rates
    towards `prior_rate` with the weight of so many watches.
    """

    k: int = 100
    restricted_share: float = 0.6
    newest_share: float = 0.1
    explore_share: float = 0.2
    max_attributes: int = 12
    min_watches: float = 3.0
    session_weight: float = 0.5
    prior_satisfaction: float = 10.0
    prior_watches: float = 20.0
    prior_rate: float = 0.5
    probability_weight: float = 0.1
    overfetch: int = 3
    max_age_ms: int = 90 * 86_400_000
    creator_limit: int = 2
    creator_window: int = 10

    def __post_init__(self) -> None:
        """Refuse a blend that is all restriction: it would only ever confirm itself."""
        if min(self.restricted_share, self.newest_share) < 0 or self.restricted_share + self.newest_share > 0.8:
            raise ConfigurationError(
                f"restricted_share {self.restricted_share} and newest_share {self.newest_share} must leave at least 0.2"
                " of a list to the unrestricted lane"
            )


@dataclass(frozen=True)
class Retrieved:
    """Candidates, best first; places by attribute; removed videos by reason; and what filled a thin pool."""

    candidates: tuple[Candidate, ...]
    quotas: dict[str, int]
    removed: dict[str, int]
    fallback: Fallback


@dataclass
class _Pool:
    """What one lane offers, best first, and how many places it has and has taken."""

    lane: Lane
    places: int
    rows: list[int]
    scores: dict[int, float]
    attribute: str | None = None
    taken: int = 0

    @property
    def turn(self) -> float:
        """The lane with the lowest is next: each advances evenly through its places."""
        return (self.taken + 0.5) / self.places


@dataclass
class _Blend:
    """The list as it is filled."""

    cap: CreatorCap
    placed: dict[int, _Pool] = field(default_factory=dict[int, _Pool])

    def fill(self, pools: Sequence[_Pool], reserve: _Pool, k: int) -> None:
        """Interleave the pools until there are `k` places; where none of them can take one, the reserve does."""
        while len(self.placed) < k:
            waiting = sorted((p for p in pools if p.taken < p.places), key=lambda p: p.turn)
            if not any(self._take(pool) for pool in [*waiting, reserve]):
                return

    def _take(self, pool: _Pool) -> bool:
        for position, row in enumerate(pool.rows):
            if row not in self.placed and self.cap.admits(row):
                del pool.rows[position]
                self.cap.place(row)
                self.placed[row] = pool
                pool.taken += 1
                return True
        return False


def quotas(state: UserState | None, catalogue: Catalogue, settings: RetrievalSettings, rng: Random) -> dict[str, int]:
    """Return places of the restricted lane by attribute: by share of satisfaction, and one attribute to explore.

    The sum is at most the lane's places. Policy attributes have none.
    """
    servable = [attribute for attribute in catalogue.ids if attribute not in catalogue.policy_ids]
    affinities = state.affinities if state else {}
    total = sum(_satisfaction(a, settings) for attribute, a in affinities.items() if attribute in servable)
    pull = settings.prior_satisfaction

    def share(attribute: str) -> float:
        own = _satisfaction(affinities.get(attribute, _NONE), settings)
        return (own + pull / len(servable)) / (total + pull)

    known = [attribute for attribute in servable if affinities.get(attribute, _NONE).n >= settings.min_watches]
    best = sorted(known, key=share, reverse=True)[: settings.max_attributes]
    lane = int(settings.k * settings.restricted_share)
    explored = _explore([a for a in servable if a not in best], affinities, settings, rng)
    places = {explored: int(lane * settings.explore_share)} if explored else {}
    left = lane - sum(places.values())
    budget = lane * (1 - settings.explore_share)
    for attribute in best:
        places[attribute] = min(left, round(budget * share(attribute)))
        left -= places[attribute]
    return {attribute: n for attribute, n in places.items() if n > 0}


def _satisfaction(affinity: Affinity, settings: RetrievalSettings) -> float:
    return affinity.s + settings.session_weight * affinity.session_s


def _explore(
    attributes: Sequence[str], affinities: dict[str, Affinity], settings: RetrievalSettings, rng: Random
) -> str | None:
    """Thompson sampling: draw every attribute's rate from what is known of it, take the highest."""

    def draw(attribute: str) -> float:
        affinity = affinities.get(attribute, _NONE)
        liked = affinity.s + settings.prior_watches * settings.prior_rate
        disliked = max(0.0, affinity.n - affinity.s) + settings.prior_watches * (1 - settings.prior_rate)
        return rng.betavariate(liked, disliked)

    return max(attributes, key=draw, default=None)


def retrieve(
    snapshot: Snapshot, state: UserState | None, settings: RetrievalSettings, now_ms: int, rng: Random
) -> Retrieved:
    """Return candidates for a user (None: nothing is known) from the snapshot as it is.

    The same snapshot, state, `now_ms` and state of `rng` give the same list. Where lanes can't fill their places,
    the newest videos do, and `fallback` says so.
    """
    filters = [unavailable, policy, too_old(now_ms - settings.max_age_ms), seen(state.seen if state else ())]
    rows, removed = apply_filters(snapshot, np.arange(len(snapshot)), filters)
    places = quotas(state, snapshot.catalogue, settings, rng)
    similarity = _similarity(snapshot, state)
    fetch = settings.k * (1 + settings.overfetch)
    newest = _newest(snapshot, rows, similarity, int(settings.k * settings.newest_share), fetch)
    pools = [newest]
    eligible = np.zeros(len(snapshot), np.bool_)
    eligible[rows] = True
    pools += [_restricted(snapshot, eligible, similarity, name, n, settings) for name, n in places.items()]
    if similarity is not None:
        open_places = settings.k - newest.places - sum(places.values())
        best = _top(similarity[rows], settings.k + open_places * settings.overfetch)  # others may take k of them
        pools.append(_pool("unrestricted", open_places, rows[best], similarity[rows[best]]))

    blend = _Blend(CreatorCap(snapshot.creators, settings.creator_limit, settings.creator_window))
    blend.fill(pools, replace(newest, rows=list(newest.rows)), settings.k)
    while len(blend.placed) < settings.k and fetch < len(rows):
        fetch *= 4  # a few creators with many new videos must not leave the list short
        blend.fill(pools, _newest(snapshot, rows, similarity, settings.k, fetch), settings.k)
    planned = sum(pool.taken for pool in pools)
    removed[CreatorCap.reason] = blend.cap.removed
    return Retrieved(
        candidates=tuple(
            Candidate(snapshot.video_id(row), pool.scores[row], pool.lane, pool.attribute)
            for row, pool in blend.placed.items()
        ),
        quotas=places,
        removed={reason: count for reason, count in removed.items() if count},
        fallback="newest" if planned < settings.k else "none",
    )


def _similarity(snapshot: Snapshot, state: UserState | None) -> Float32s | None:
    """Return the cosine of every video to the user's taste; None where there is no taste that fits."""
    taste = np.frombuffer(state.taste if state else b"", "<f2").astype(np.float32)
    norm = np.linalg.norm(taste)
    if taste.size != snapshot.dim or not np.isfinite(norm) or norm == 0.0:
        return None
    taste /= norm
    return snapshot.vectors @ taste


def _restricted(
    snapshot: Snapshot,
    eligible: npt.NDArray[np.bool_],
    similarity: Float32s | None,
    attribute: str,
    places: int,
    settings: RetrievalSettings,
) -> _Pool:
    index = snapshot.attribute_index[attribute]
    rows = np.flatnonzero(eligible & (snapshot.labels[index] == 1))
    p = np.nan_to_num(snapshot.probabilities[index][rows], nan=_LOWEST_P)
    scores = settings.probability_weight * np.log(np.maximum(p, _LOWEST_P))
    if similarity is not None:
        scores = scores + similarity[rows]
    best = _top(scores, places * settings.overfetch)
    return _pool("restricted", places, rows[best], scores[best], attribute)


def _newest(snapshot: Snapshot, rows: Rows, similarity: Float32s | None, places: int, fetch: int) -> _Pool:
    rows = rows[_top(snapshot.uploaded_at_ms[rows], fetch)]
    return _pool("newest", places, rows, np.zeros(len(rows), np.float32) if similarity is None else similarity[rows])


def _pool(lane: Lane, places: int, rows: Rows, scores: Float32s, attribute: str | None = None) -> _Pool:
    ranked = rows.tolist()
    return _Pool(lane, places, ranked, dict(zip(ranked, scores.tolist(), strict=True)), attribute)


def _top(scores: np.ndarray, n: int) -> Rows:
    """Return the positions of the `n` highest scores, highest first."""
    if n < len(scores):
        best = np.argpartition(scores, len(scores) - n)[len(scores) - n :]
    else:
        best = np.arange(len(scores))
    return best[np.argsort(-scores[best], kind="stable")]
