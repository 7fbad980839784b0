"""A quota that workers on several machines share: how fast they all ask, counted in Redis by its clock."""

import asyncio
import logging
import math

import redis.asyncio

from models.llm_limits import PERIOD_S, Taken
from models.llm_redis import run
from models.llm_redis_scripts import END, HOLD, TAKE
from schemas.errors import AnnotatorUnavailable

log = logging.getLogger(__name__)

_MOST_UNITS = 2**53
# Requests of other workers end without telling us.
_LOOK_AGAIN_S = 0.25


class SharedWindow:
    """A Window over all workers that name it alike; see RateLimit.

    The units of a worker that is gone count as if its request had lasted as long as it could.
    """

    def __init__(
        self, client: redis.asyncio.Redis, name: str, limit: float, longest_s: float, period_s: float = PERIOD_S
    ) -> None:
        """`longest_s` bounds one request; the client stays the caller's to close."""
        self._redis = client
        self._prefix = f"{{{name}}}:"
        self._limit = int(min(limit, _MOST_UNITS))
        self._lease_s = longest_s + period_s
        self._period_s = period_s
        self._turn = asyncio.Lock()

    async def take(self, units: float) -> Taken:
        """Return when there is room; see RateLimit."""
        wanted = min(math.ceil(units), self._limit)
        async with self._turn:
            while True:
                given, wait_ms = await self._run(TAKE, wanted, self._limit, self._lease_s)
                if given:
                    return Taken(wanted, given)
                await asyncio.sleep(min(max(wait_ms / 1_000, 0.005), _LOOK_AGAIN_S))

    async def end(self, taken: Taken, used: float) -> None:
        """Say what was used; if that can't be said, all of it counts for as long as its request could have lasted."""
        await self._tell(END, taken.id, math.ceil(used), self._period_s)

    async def hold(self, seconds: float) -> None:
        """Let nothing through for so long."""
        await self._tell(HOLD, seconds)

    async def _tell(self, script: str, *arguments: float) -> None:
        try:
            await self._run(script, *arguments)
        except AnnotatorUnavailable as error:  # what was paid for has to be kept all the same
            log.warning("%s", error)

    async def _run(self, script: str, *arguments: float) -> list[int]:
        return await run(self._redis, script, self._prefix, "", *arguments)
