"""How a worker's crowd learns: from confirmed watches, and at first from what their users watched before."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.events import WatchEvent
from schemas.user_state import UserState
from streams.crowd import Crowd, Watched
from streams.retriever import Retriever

_UNKNOWN = 0.5  # how satisfied a watch was that only its video is known of

User = tuple[int, str]


@dataclass
class Noted:
    """What a run's watches would teach, until it is confirmed."""

    watches: list[Watched] = field(default_factory=list[Watched])
    users: set[User] = field(default_factory=set[User])


class CrowdLearner:
    """Teaches a crowd each confirmed watch once.

    A worker that starts has an empty crowd and users with a past: until the crowd has learned `warm_watches`, the first
    watch of each user brings those that the user's state still names. `note` and `learn` are called in the thread of
    the crowd, `confirm` from anywhere.
    """

    def __init__(self, crowd: Crowd, retriever: Retriever, warm_watches: int) -> None:
        self._crowd = crowd
        self._retriever = retriever
        self._warm_watches = warm_watches
        self._confirmed: deque[Noted] = deque()
        self._known: set[User] = set()

    def note(self, noted: Noted, user: User, before: UserState | None, event: WatchEvent, satisfied: float) -> None:
        """Note a watch of a user whose state it found to be `before`; unknown videos teach nothing."""
        history = self._crowd.history
        past = self._retriever.rows(before.seen[-history:] if before else ())
        if before is not None and self._crowd.watches < self._warm_watches and self._is_new(user, noted):
            has = self._retriever.describe(past).present
            noted.watches += [
                Watched(row, has[at], _UNKNOWN, before.updated_at_ms, past[:at]) for at, row in enumerate(past.tolist())
            ]
        noted.users.add(user)
        row = self._retriever.rows((event.video_id,))
        if len(row):
            has = self._retriever.describe(row).present[0]
            noted.watches.append(Watched(int(row[0]), has, satisfied, event.watched_at_ms, past))

    def confirm(self, noted: Noted) -> None:
        """Have the noted learned before the next run."""
        self._confirmed.append(noted)

    def learn(self) -> None:
        """Teach the crowd what was confirmed since."""
        while self._confirmed:
            noted = self._confirmed.popleft()
            self._crowd.learn(noted.watches)
            self._remember(noted.users)

    def _is_new(self, user: User, noted: Noted) -> bool:
        return user not in self._known and user not in noted.users

    def _remember(self, users: Iterable[User]) -> None:
        if self._crowd.watches < self._warm_watches:
            self._known.update(users)
        else:
            self._known.clear()
