"""How satisfied a watch was, from what the player reported."""

from typing import Protocol

from schemas.events import WatchEvent

_GLANCE_MS = 5_000


class Satisfaction(Protocol):
    """A labeler: from a watch to [0, 1].

    Pure: the same event gives the same number in every process and at every time, or a redelivered event would leave
    another user state. So what is learned of the traffic is learned beforehand, into a labeler of another name.
    """

    @property
    def labeler(self) -> str:
        """The name of this very rule, `kind/version`; user states and candidate lists carry it."""
        ...

    def __call__(self, event: WatchEvent, /) -> float:
        """Return how satisfied the watch was."""
        ...


class WatchedFraction:
    """The share of the video that was played, at most 1; what `told` says goes before it.

    A duration of 0 is unknown: what was played for longer than a glance counts as watched.
    """

    labeler = "fraction/1"

    def __call__(self, event: WatchEvent, /) -> float:
        """Return how satisfied the watch was."""
        known = told(event)
        if known is not None:
            return known
        return min(1.0, event.watch_ms / event.duration_ms) if event.duration_ms else 1.0


satisfaction: Satisfaction = WatchedFraction()


def told(event: WatchEvent) -> float | None:
    """Return 1 for an explicit positive, 0 for a dislike or a glance, None where only the time played tells.

    A glance is a play of less than 5 s that did not reach the end.
    """
    if event.liked or event.shared or event.followed or event.commented:
        return 1.0
    if event.disliked:
        return 0.0
    unfinished = event.watch_ms < event.duration_ms or event.duration_ms == 0
    return 0.0 if event.watch_ms < _GLANCE_MS and unfinished else None
