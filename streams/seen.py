"""The rows of what users have watched: looked up for the latest watches, and remembered for those before."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Raw

from schemas.user_state import UserState, watched_since
from streams.recent import keep
from streams.retriever import Int32s, Retriever, no_rows

_ALL = 1 << 31


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

    def of(self, state: UserState | None, most: int = _ALL) -> Int32s:
        """Return the rows of the videos in a state that are known, oldest watch first; of more than `most` the last."""
        if state is None:
            return no_rows()
        known = self._users.get(state.user_id)
        if known is None:
            rows = self._retriever.find(state.seen)
        elif (since := watched_since(state.watched, known.watched)) is not None:
            rows = self._later(state, known, *since)
        elif (since := watched_since(known.watched, state.watched)) is not None:
            # An earlier state: what is listed first is learned last. The later one stays remembered.
            gone, latest = since
            rows = _known(self._asked_again(known.rows[: len(known.rows) - len(latest)], state, gone))
            if gone and len(rows) < most:
                rows = np.concatenate([_known(self._retriever.find(state.seen[:gone])), rows])
            return rows[-most:]
        else:
            rows = self._retriever.find(state.seen)
        keep(self._users, state.user_id, _Known(state.watched, rows), self._most)
        return _known(rows)[-most:]

    def clear(self) -> None:
        """Forget all rows, because they have other numbers now."""
        self._users.clear()

    def _later(self, state: UserState, known: _Known, gone: int, latest: Sequence[str]) -> Int32s:
        rows = known.rows[gone:]
        if latest:
            rows = np.concatenate([rows, self._retriever.find(latest)])
        return self._asked_again(rows, state)

    def _asked_again(self, rows: Int32s, state: UserState, first: int = 0) -> Int32s:
        """Look up what was unknown, which may be known by now; `rows` are of a state's videos from `first` on."""
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            seen = state.seen
            rows = rows.copy()
            rows[unknown] = self._retriever.find([seen[first + at] for at in unknown.tolist()])
        return rows


def _known(rows: Int32s) -> Int32s:
    return rows[rows >= 0]
