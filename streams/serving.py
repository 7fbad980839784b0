"""Lists for those who ask: the last one of a session, and one made for a request."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random
from threading import Lock
from typing import NamedTuple

import msgspec

from schemas.attributes import Catalogue
from schemas.errors import InvalidRecord
from schemas.requests import CandidatesRequest
from schemas.user_state import Affinity, UserState, watched_ids
from streams.policy import RetrievalSettings
from streams.recent import keep

_ASKED = 1_000.0  # watches, all satisfied: next to them the equal shares of the prior are nothing


class _Made(NamedTuple):
    partition: int
    value: bytes


class LatestLists:
    """The last list of each session that this worker made, encoded; of the sessions least recently used none.

    Safe to use from several threads.
    """

    def __init__(self, sessions: int) -> None:
        """Keep the lists of so many sessions."""
        self._sessions = sessions
        self._made: OrderedDict[str, _Made] = OrderedDict()
        self._lock = Lock()

    def put(self, session_id: str, value: bytes, partition: int) -> None:
        """Keep the list of a session whose events lie in `partition`."""
        with self._lock:
            keep(self._made, session_id, _Made(partition, value), self._sessions)

    def get(self, session_id: str) -> bytes | None:
        """Return the last list of a session, None if it was forgotten or never made here."""
        with self._lock:
            made = self._made.get(session_id)
            if made is None:
                return None
            self._made.move_to_end(session_id)
            return made.value

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop the sessions of partitions that others read now: theirs are the last lists."""
        gone = set(partitions)
        with self._lock:
            for session_id in [s for s, made in self._made.items() if made.partition in gone]:
                del self._made[session_id]


@dataclass(frozen=True)
class Plan:
    """What retrieval is given for a request."""

    state: UserState | None
    rng: Random
    settings: RetrievalSettings


def plan(
    request: CandidatesRequest, state: UserState | None, settings: RetrievalSettings, catalogue: Catalogue, now_ms: int
) -> Plan:
    """Return what to retrieve for a request; `state` is what is remembered of its user.

    The same request gives the same list until the user watches more or the catalogue changes.

    Raises:
        InvalidRecord: impossible: an attribute that can't be asked for, or videos older than `settings` allow.

    """
    servable = [attribute for attribute in catalogue.ids if attribute not in catalogue.policy_ids]
    if unknown := sorted(set(request.attributes) - set(servable)):
        raise InvalidRecord("impossible", f"attributes {', '.join(unknown)}: there are {', '.join(servable)}")
    max_age_ms = settings.max_age_ms if request.max_age_ms is None else request.max_age_ms
    if max_age_ms > settings.max_age_ms:
        raise InvalidRecord("impossible", f"max_age_ms {max_age_ms}: this worker serves up to {settings.max_age_ms}")
    changed = replace(settings, k=request.k, max_age_ms=max_age_ms)
    if request.language is not None:
        changed = replace(changed, languages=(request.language,))
    rng = Random(f"{request}/{state.applied if state else ''}")
    if request.attributes:
        changed = replace(changed, explore_share=0.0)
    if request.attributes or request.exclude:
        state = _changed(state or _nobody(now_ms), request)
    return Plan(state, rng, changed)


def _changed(state: UserState, request: CandidatesRequest) -> UserState:
    asked = {attribute: Affinity(_ASKED, _ASKED, 0.0, 0.0) for attribute in request.attributes}
    return msgspec.structs.replace(
        state,
        affinities=asked or state.affinities,
        watched=watched_ids((*request.exclude, *state.seen)) if request.exclude else state.watched,
    )


def _nobody(now_ms: int) -> UserState:
    return UserState(
        schema_version=1,
        applied=0,
        user_id="-",
        updated_at_ms=now_ms,
        session_id="-",
        watches_since_list=0,
        affinities={},
        taste=b"",
        taste_weight=0.0,
        watched=watched_ids(()),
    )
