"""What a user wants more of: shares of attributes, and the places they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from schemas.attributes import Catalogue
from schemas.user_state import Affinity, UserState
from streams.crowd import Crowd
from streams.policy import RetrievalSettings

_NONE = Affinity(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Prior:
    """What is expected of a user of whom nothing is known, by attribute that is no policy.

    `shares` are in the satisfaction of all users, and add up to 1; `rates` are the mean satisfaction of their watches.
    """

    shares: dict[str, float]
    rates: dict[str, float]


def prior(catalogue: Catalogue, settings: RetrievalSettings, crowd: Crowd | None) -> Prior:
    """Return what the crowd has shown, shrunk: towards equal shares, and towards the mean rate of all its watches.

    Not towards a fixed rate: above the mean, it would have the attributes explored that the crowd knows least.
    """
    servable = [attribute for attribute in catalogue.ids if attribute not in catalogue.policy_ids]
    watches, satisfied = (dict.fromkeys(servable, 0.0) for _ in range(2))
    if crowd is not None:
        watches, satisfied = (
            {a: n for a, n in zip(catalogue.ids, amounts.tolist(), strict=True) if a in watches}
            for amounts in crowd.attributes(len(catalogue.ids))
        )
    pull, most = settings.prior_satisfaction, settings.prior_watches
    mean = settings.prior_rate if crowd is None else crowd.rate
    total = sum(satisfied.values()) + pull
    return Prior(
        {attribute: (s + pull / len(servable)) / total for attribute, s in satisfied.items()},
        {a: (s + most * mean) / (watches[a] + most) for a, s in satisfied.items()},
    )


def shares(state: UserState | None, expected: Prior, settings: RetrievalSettings) -> dict[str, float]:
    """Return the share of each attribute in the user's satisfaction, shrunk towards that of all; their sum is 1."""
    affinities = state.affinities if state else {}
    own = {attribute: _satisfaction(affinities.get(attribute, _NONE), settings) for attribute in expected.shares}
    pull = settings.prior_satisfaction
    total = sum(own.values()) + pull
    return {attribute: (satisfied + pull * expected.shares[attribute]) / total for attribute, satisfied in own.items()}


def quotas(
    state: UserState | None,
    catalogue: Catalogue,
    settings: RetrievalSettings,
    rng: Random,
    expected: Prior | None = None,
    share: dict[str, float] | None = None,
) -> dict[str, int]:
    """Return places of the restricted lane by attribute: by share of satisfaction, and one attribute to explore.

    The sum is at most the lane's places. Policy attributes have none.
    """
    expected = expected or prior(catalogue, settings, None)
    share = share or shares(state, expected, settings)
    affinities = state.affinities if state else {}
    known = [attribute for attribute in share if affinities.get(attribute, _NONE).n >= settings.min_watches]
    best = sorted(known, key=share.__getitem__, reverse=True)[: settings.max_attributes]
    lane = int(settings.k * settings.restricted_share)
    explored = _explore([a for a in share if a not in best], affinities, expected, settings, rng)
    tried = min(lane, max(1, int(lane * settings.explore_share))) if settings.explore_share else 0
    places = {explored: tried} if explored else {}
    left = lane - sum(places.values())
    budget = lane * (1 - settings.explore_share)
    for attribute in best:
        places[attribute] = min(left, round(budget * share[attribute]))
        left -= places[attribute]
    return {attribute: n for attribute, n in places.items() if n > 0}


def _satisfaction(affinity: Affinity, settings: RetrievalSettings) -> float:
    return affinity.s + settings.session_weight * affinity.session_s


def _explore(
    attributes: Sequence[str],
    affinities: dict[str, Affinity],
    expected: Prior,
    settings: RetrievalSettings,
    rng: Random,
) -> str | None:
    """Thompson sampling: draw every attribute's rate from what is known of it, take the highest."""

    def draw(attribute: str) -> float:
        affinity = affinities.get(attribute, _NONE)
        rate = min(max(expected.rates[attribute], 1e-3), 1 - 1e-3)
        liked = affinity.s + settings.prior_watches * rate
        disliked = max(0.0, affinity.n - affinity.s) + settings.prior_watches * (1 - rate)
        return rng.betavariate(liked, disliked)

    return max(attributes, key=draw, default=None)
