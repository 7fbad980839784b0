"""How satisfied a watch was, from what the player reported."""

from collections.abc import Callable

from schemas.events import WatchEvent

Satisfaction = Callable[[WatchEvent], float]
"""From a watch to [0, 1]; pure, because a redelivered event must give the same number."""

_GLANCE_MS = 5_000


def satisfaction(event: WatchEvent) -> float:
    """Return 1 for an explicit positive, 0 for a dislike or a glance, else the watched fraction, at most 1.

    A glance is a play of less than 5 s that did not reach the end. A duration of 0 is unknown: what was played for
    longer than a glance counts as watched.
    """
    if event.liked or event.shared or event.followed or event.commented:
        return 1.0
    if event.disliked:
        return 0.0
    unfinished = event.watch_ms < event.duration_ms or event.duration_ms == 0
    if event.watch_ms < _GLANCE_MS and unfinished:
        return 0.0
    return min(1.0, event.watch_ms / event.duration_ms) if event.duration_ms else 1.0
