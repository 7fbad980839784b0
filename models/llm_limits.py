"""How fast an LLM may be asked: requests and tokens in any minute, and requests at once.

Own code, because aiolimiter is a leaky bucket: after a quiet minute it lets through a burst and then the rate as well,
which is up to twice the limit within one minute. A quota counts.
"""

import asyncio
from collections import deque
from typing import NamedTuple, Protocol

from monitoring import metrics

PERIOD_S = 60.0
"""Quotas are per minute."""


class Taken(NamedTuple):
    """What a request took of a limit."""

    units: float
    id: int = 0


class RateLimit(Protocol):
    """So many units in any minute."""

    async def take(self, units: float) -> Taken:
        """Return, when there is room, what was taken: `units`, or the whole limit if that is less."""
        ...

    async def end(self, taken: Taken, used: float) -> None:
        """Say that the answer is there, and what it really used; 0 if nothing was sent."""
        ...

    async def hold(self, seconds: float) -> None:
        """Let nothing through for so long."""
        ...


class Window:
    """At most `limit` units in any `period_s` seconds, as the service counts them; of this worker, see RateLimit.

    The service counts a request at some moment between its sending and its answer. So its units are taken from when it
    is sent until `period_s` after its answer. Waits in the order of arrival.
    """

    def __init__(self, limit: float, period_s: float = PERIOD_S) -> None:
        self._limit = limit
        self._period_s = period_s
        self._open = 0.0
        self._ended: deque[tuple[float, float]] = deque()
        self._taken = 0.0
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._held_until = 0.0

    async def hold(self, seconds: float) -> None:
        """Let nothing through for so long."""
        self._held_until = max(self._held_until, asyncio.get_running_loop().time() + seconds)

    async def take(self, units: float) -> Taken:
        """Return when there is room."""
        units = min(units, self._limit)
        async with self._turn:
            while (wait := self._wait_for(units)) is not None:
                self._changed.clear()
                try:
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                except TimeoutError:
                    continue
            self._open += units
            return Taken(units)

    async def end(self, taken: Taken, used: float) -> None:
        """Say what was used."""
        self._open -= taken.units
        if used:
            self._ended.append((asyncio.get_running_loop().time() + self._period_s, used))
            self._taken += used
        self._changed.set()

    def _wait_for(self, units: float) -> float | None:
        """Return how long to wait before looking again, None if there is room."""
        now = asyncio.get_running_loop().time()
        if now < self._held_until:
            return self._held_until - now
        while self._ended and self._ended[0][0] <= now:
            self._taken -= self._ended.popleft()[1]
        # Sums of floats: a millionth is no unit.
        if self._open + self._taken + units <= self._limit + 1e-6:
            return None
        return max(self._ended[0][0] - now, 0.001) if self._ended else self._period_s


class Concurrency:
    """Requests at once: one more per round of good answers, half as many when the service is overloaded (AIMD).

    After a cut, the answers to requests from before it cut no further. Waits in the order of arrival.
    """

    def __init__(self, most: int, first: int = 4) -> None:
        self._most = most
        self._limit = float(min(first, most))
        self._running = 0
        self._cut_at = -1.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> float:
        """Wait for a free place; return the moment, for `leave`."""
        loop = asyncio.get_running_loop()
        if self._waiting or self._running >= int(self._limit):
            place: asyncio.Future[None] = loop.create_future()
            self._waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._free()
                raise
        else:
            self._running += 1
        return loop.time()

    def leave(self, entered: float, *, good: bool, overloaded: bool) -> None:
        """Give the place back and say how it went."""
        if good:
            self._limit = min(self._limit + 1 / self._limit, self._most)
        elif overloaded and entered > self._cut_at:
            self._limit = max(self._limit / 2, 1.0)
            self._cut_at = asyncio.get_running_loop().time()
        metrics.LLM_CONCURRENCY.set(int(self._limit))
        self._free()

    def _free(self) -> None:
        self._running -= 1
        while self._waiting and self._running < int(self._limit):
            place = self._waiting.popleft()
            if not place.done():
                self._running += 1
                place.set_result(None)
