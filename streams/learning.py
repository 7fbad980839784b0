"""How a worker's crowd learns: from confirmed watches, and at first from what their users watched before."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.events import WatchEvent
from schemas.user_state import UserState
from streams.crowd import Crowd, Watched
from streams.retriever import Bools, Int32s, Retriever
from streams.seen import SeenRows

_UNKNOWN = 0.5  # how satisfied a watch was that only its video is known of

User = tuple[int, str]


class _Note(NamedTuple):
    """A watch, and the state of its user before it; `recalls` if the crowd has yet to learn what that one watched."""

    event: WatchEvent
    satisfied: float
    before: UserState | None
    recalls: bool


@dataclass
class Noted:
    """What a run's watches would teach, until it is confirmed; and the users of a run before that isn't yet."""

    watches: list[_Note] = field(default_factory=list[_Note])
    users: set[User] = field(default_factory=set[User])
    users_before: set[User] = field(default_factory=set[User])


class CrowdLearner:
    """Teaches a crowd each confirmed watch once.

    A worker that starts has an empty crowd and users with a past: until the crowd has learned `warm_watches`, the first
    watch of each user brings those that the user's state still names. `note` and `learn` are called in the thread of
    the crowd, `confirm` from anywhere.
    """

    def __init__(self, crowd: Crowd, retriever: Retriever, seen: SeenRows, warm_watches: int) -> None:
        """`seen` looks up the rows of `retriever`."""
        self._crowd = crowd
        self._retriever = retriever
        self._seen = seen
        self._warm_watches = warm_watches
        self._confirmed: deque[Noted] = deque()
        self._known: set[User] = set()

    def note(self, noted: Noted, user: User, before: UserState | None, event: WatchEvent, satisfied: float) -> None:
        """Note a watch of a user whose state it found to be `before`."""
        recalls = self._crowd.watches < self._warm_watches and not any(
            user in users for users in (self._known, noted.users, noted.users_before)
        )
        noted.watches.append(_Note(event, satisfied, before, recalls))
        noted.users.add(user)

    def confirm(self, noted: Noted) -> None:
        """Have the noted learned."""
        self._confirmed.append(noted)

    def learn(self) -> None:
        """Teach the crowd what was confirmed since; unknown videos teach nothing."""
        while self._confirmed:
            noted = self._confirmed.popleft()
            rows = self._retriever.find([note.event.video_id for note in noted.watches])
            present = self._retriever.describe(rows[rows >= 0]).present
            self._crowd.learn(list(self._watched(noted.watches, rows, iter(present))))
            self._remember(noted.users)

    def _watched(self, notes: Sequence[_Note], rows: Int32s, present: Iterator[Bools]) -> Iterable[Watched]:
        for note, row in zip(notes, rows.tolist(), strict=True):
            before = note.before
            past = self._seen.of(before, self._crowd.history)
            if before is not None and note.recalls:
                has = self._retriever.describe(past).present
                for at, watched in enumerate(past.tolist()):
                    yield Watched(watched, has[at], _UNKNOWN, before.updated_at_ms, past[:at])
            if row >= 0:
                yield Watched(row, next(present), note.satisfied, note.event.watched_at_ms, past)

    def _remember(self, users: Iterable[User]) -> None:
        if self._crowd.watches < self._warm_watches:
            self._known.update(users)
        else:
            self._known.clear()
