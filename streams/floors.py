"""What the lanes of users' last lists had to score: guesses that spare the next search most of its looking closer."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from streams.retriever import Float32s, Found, Lane

_SLACK = np.float32(0.015)
"""How much lower the next list of a user may score without a second search: tastes move little between two lists."""


class Floors:
    """The lowest score per lane in the last search for each user; of the users least recently served nothing.

    It is no part of any result: a guess that is too high costs a second search. Use it from one thread.
    """

    def __init__(self, users: int = 20_000) -> None:
        """Remember so many users, at about 300 bytes each."""
        self._users = users
        self._known: OrderedDict[str, Float32s] = OrderedDict()

    def guess(self, user: str, lanes: Sequence[Lane], numbers: Sequence[int]) -> Sequence[float]:
        """Return what the lanes' results should score at least; `numbers` are of their attributes, 0 for all videos."""
        known = self._known.get(user)
        if known is None:
            return ()
        return [
            -np.inf if lane.newest or lane.among is not None or number >= len(known) else known[number]
            for lane, number in zip(lanes, numbers, strict=True)
        ]

    def note(self, user: str, lanes: Sequence[Lane], numbers: Sequence[int], found: Found) -> None:
        """Remember what was found for a user; a lane that was not filled gives no hint."""
        known = np.full(max(numbers) + 1, -np.inf, np.float32)
        ends = found.bounds[1:].tolist()
        for lane, number, start, end in zip(lanes, numbers, found.bounds.tolist(), ends, strict=False):
            if not lane.newest and lane.among is None and end - start == lane.k > 0:
                known[number] = found.scores[end - 1] - _SLACK
        self._known[user] = known
        self._known.move_to_end(user)
        if len(self._known) > self._users:
            self._known.popitem(last=False)
