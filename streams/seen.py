"""The rows of what users have watched: looked up for the latest watches, and remembered for those before."""

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from msgspec import Raw

from schemas.user_state import UserState, watched_since
from streams.retriever import Int32s, Retriever


class _Known(NamedTuple):
    watched: Raw
    rows: Int32s
    """By watch, -1 where the video was unknown."""


class SeenRows:
    """Looks up rows of users' videos in `retriever`. Use it from one thread."""

    def __init__(self, retriever: Retriever, users: int = 4_096) -> None:
        """Remember the rows of so many users, at about 8 KB each."""
        self._retriever = retriever
        self._most = users
        self._users: OrderedDict[str, _Known] = OrderedDict()

    def of(self, state: UserState | None) -> Int32s:
        """Return the rows of the videos in a state that are known, oldest watch first."""
        if state is None:
            return np.empty(0, np.int32)
        rows = self._earlier(state)
        if rows is None:
            rows = self._later(state)
            self._users[state.user_id] = _Known(state.watched, rows)
            self._users.move_to_end(state.user_id)
            if len(self._users) > self._most:
                self._users.popitem(last=False)
        return rows[rows >= 0]

    def clear(self) -> None:
        """Forget all rows, because they have other numbers now."""
        self._users.clear()

    def _earlier(self, state: UserState) -> Int32s | None:
        """Return the rows of a state before the one that is remembered: what was watched last is learned last."""
        known = self._users.get(state.user_id)
        since = None if known is None else watched_since(known.watched, state.watched)
        if known is None or since is None or not since[1]:
            return None
        gone, latest = since
        return np.concatenate([self._retriever.find(state.seen[:gone]), known.rows[: len(known.rows) - len(latest)]])

    def _later(self, state: UserState) -> Int32s:
        known = self._users.get(state.user_id)
        since = None if known is None else watched_since(state.watched, known.watched)
        if known is None or since is None:
            return self._retriever.find(state.seen)
        gone, latest = since
        rows = np.concatenate([known.rows[gone:], self._retriever.find(latest)])
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):  # they may be known by now
            seen = state.seen
            rows[unknown] = self._retriever.find([seen[at] for at in unknown.tolist()])
        return rows
