"""Answers and money in Redis, for workers on several machines: what LlmState is for those of one.

As durable as that Redis: with `appendonly yes` a crash of it costs a second at most, of answers that are asked again
and of money that was charged. Answers expire by themselves, so `maxmemory-policy` may be a volatile one; one that
evicts keys of all kinds would forget money and is refused.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import redis.asyncio
from redis.exceptions import RedisError, WatchError

from models.llm_outcome import Usage
from models.llm_redis import TRIES, asking, run, unavailable
from models.llm_redis_scripts import CHARGED, RELEASE, RESERVE, SETTLE, SPENDING
from models.llm_state import KEPT_S, REQUEST_TERM_S, Limits, Merge, Spending

# Sums of floats drift, and Lua's numbers are exact to 2 ** 53 of these: nine million dollars.
_NANO = 1_000_000_000
_MOST_USD = 9e6


class RedisMemory:
    """All keys begin with `prefix`, in braces so that a cluster keeps them together; see LlmMemory."""

    def __init__(
        self, client: redis.asyncio.Redis, merge: Merge, prefix: str = "", *, clock: Callable[[], float] | None = None
    ) -> None:
        """Take over `client`. `merge` joins a kept answer with a new one; `clock` stands in for that of Redis."""
        self._redis = client
        self._merge = merge
        self._prefix = f"{{{prefix}llm}}:"
        self._clock = clock

    async def look_up(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the answers that are known."""
        if not keys:
            return {}
        found: list[bytes | None] = await asking(self._redis.mget([self._answer(key) for key in keys]))
        return {key: answer for key, answer in zip(keys, found, strict=True) if answer is not None}

    async def reserve(
        self, most: float, likely: float, limits: Limits, term_s: float = REQUEST_TERM_S
    ) -> int | Spending:
        """Reserve; see LlmMemory."""
        bounds = (min(limit, _MOST_USD) for limit in (limits.usd_per_hour, limits.usd_per_day))
        given, *sums = await self._run(RESERVE, _nano(most), _nano(likely), *map(_nano, bounds), term_s)
        return given or _spending(sums)

    async def settle(self, reservation: int, usd: float, usage: Usage, answers: Mapping[bytes, bytes]) -> Spending:
        """Charge and keep; see LlmMemory."""
        bill = (reservation, _nano(usd), usage.input_tokens, usage.output_tokens)
        return _spending(await self._keep_and(SETTLE, answers, *bill))

    async def keep(self, answers: Mapping[bytes, bytes]) -> None:
        """Keep answers."""
        await self._keep_and(SPENDING, answers)

    async def release(self, reservation: int) -> None:
        """Give a reservation back."""
        await self._run(RELEASE, reservation)

    async def spending(self) -> Spending:
        """Return what was spent so far."""
        return _spending(await self._run(SPENDING))

    async def charged(self) -> tuple[float, int]:
        """Return the dollars and the requests of all time."""
        nano, requests = await self._run(CHARGED)
        return nano / _NANO, requests

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _answer(self, key: bytes) -> str:
        return f"{self._prefix}answer:{key.hex()}"

    async def _run(self, script: str, *arguments: float) -> list[int]:
        return await run(self._redis, script, self._prefix, self._now(), *arguments)

    async def _keep_and(self, script: str, answers: Mapping[bytes, bytes], *arguments: float) -> list[int]:
        """Keep the answers and run the script, both or neither; another worker's answers in between are joined."""
        keys = {self._answer(key): answer for key, answer in answers.items()}
        failures = 0
        async with self._redis.pipeline(transaction=True) as pipe:
            while True:
                try:
                    known: list[bytes | None] = []
                    if keys:
                        await pipe.watch(*keys)
                        known = await asking(pipe.mget(list(keys)))
                    pipe.multi()
                    for (key, answer), before in zip(keys.items(), known, strict=True):
                        pipe.set(key, answer if before is None else self._merge(before, answer), ex=int(KEPT_S))
                    pipe.eval(script, 1, self._prefix, self._now(), *arguments)
                    return (await pipe.execute())[-1]
                except WatchError:
                    continue
                except (RedisError, OSError) as error:
                    failures += 1  # it was paid for, and doing it twice changes nothing
                    if failures >= TRIES:
                        raise unavailable(error) from error
                    await asyncio.sleep(0.1 * 2**failures)

    def _now(self) -> float | str:
        return "" if self._clock is None else self._clock()


def _nano(usd: float) -> int:
    return round(usd * _NANO)


def _spending(sums: Sequence[int]) -> Spending:
    hour, day, reserved = sums
    return Spending(hour / _NANO, day / _NANO, reserved / _NANO)
