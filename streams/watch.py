"""What a watch does to what is remembered of its user."""

import math

import numpy as np
from msgspec.structs import replace

from models.satisfaction import Satisfaction
from schemas.events import WatchEvent
from schemas.user_state import Affinity, UserState, watched_ids, with_watched
from streams.videos import VideoView

_DAY_MS = 86_400_000
TAU_MS = 7 * _DAY_MS
SESSION_TAU_MS = 30 * 60_000
SEEN_VIDEOS = 500
_FORGOTTEN = 1e-3  # below this many watches an attribute is dropped: the state stays bounded when the catalogue changes


def apply(
    state: UserState | None,
    event: WatchEvent,
    offset: int,
    video: VideoView | None,
    satisfaction: Satisfaction,
) -> UserState:
    """Return the user's state after `event` at `offset`; the same object if that offset was applied before.

    A late event decays nothing and counts in full; time never moves back. A video that is not in the snapshot (None)
    only counts as seen.
    """
    if state is None:
        state = UserState(
            schema_version=1,
            applied=0,
            user_id=event.user_id,
            updated_at_ms=event.watched_at_ms,
            session_id=event.session_id,
            watches_since_list=0,
            affinities={},
            taste=b"",
            taste_weight=0.0,
            watched=watched_ids(()),
        )
    elif offset <= state.applied:
        return state
    elapsed_ms = max(0, event.watched_at_ms - state.updated_at_ms)
    decay = math.exp(-elapsed_ms / TAU_MS)
    satisfied = satisfaction(event) if video else 0.0
    taste, taste_weight = _taste(state, video, satisfied, decay)
    return replace(
        state,
        applied=offset,
        updated_at_ms=state.updated_at_ms + elapsed_ms,
        session_id=event.session_id,
        watches_since_list=state.watches_since_list + 1,
        affinities=_affinities(state, video, satisfied, decay, math.exp(-elapsed_ms / SESSION_TAU_MS)),
        taste=taste,
        taste_weight=taste_weight,
        watched=with_watched(state.watched, event.video_id, SEEN_VIDEOS),
        labeler=satisfaction.labeler,
    )


def _affinities(
    state: UserState, video: VideoView | None, satisfied: float, decay: float, session_decay: float
) -> dict[str, Affinity]:
    probabilities = video.probabilities if video else {}
    affinities: dict[str, Affinity] = {}
    for attribute, a in state.affinities.items():
        n = a.n * decay
        if n >= _FORGOTTEN:
            p = probabilities.get(attribute, 0.0)
            s = satisfied * p
            affinities[attribute] = Affinity(
                n + p, a.s * decay + s, a.session_n * session_decay + p, a.session_s * session_decay + s
            )
    for attribute, p in probabilities.items():
        if attribute not in affinities:
            s = satisfied * p
            affinities[attribute] = Affinity(p, s, p, s)
    return affinities


def _taste(state: UserState, video: VideoView | None, satisfied: float, decay: float) -> tuple[bytes, float]:
    weight = state.taste_weight * decay
    if video is None or video.vector is None or satisfied == 0.0:
        return state.taste, weight
    mean = np.frombuffer(state.taste, "<f2").astype(np.float32)
    if mean.size != video.vector.size:  # the first vector, or the first of a student with another dimension
        return video.vector.astype("<f2").tobytes(), satisfied
    mean = (mean * weight + video.vector * satisfied) / (weight + satisfied)
    return mean.astype("<f2").tobytes(), weight + satisfied
