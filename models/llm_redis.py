"""The Redis that workers on several machines share: how it is reached, and what its failures mean."""

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, RedisError

from schemas.errors import AnnotatorUnavailable, ConfigurationError

TRIES = 4
_TIMEOUT_S = 5.0


def connect(url: str) -> redis.asyncio.Redis:
    """Return a client of the Redis at `url`.

    Raises:
        ConfigurationError: the URL is malformed, or Redis refuses it or may forget what is kept in it.
        AnnotatorUnavailable: it does not answer.

    """
    try:
        with redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S) as probe:
            memory = probe.info("memory")
    except AuthenticationError as error:
        raise ConfigurationError(f"VIBESTREAM_LLM_REDIS: Redis refused user or password: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"VIBESTREAM_LLM_REDIS: {error}") from error
    except (RedisError, OSError) as error:
        raise unavailable(error) from error
    policy = str(memory.get("maxmemory_policy", ""))
    if policy.startswith("allkeys"):
        raise ConfigurationError(
            f"VIBESTREAM_LLM_REDIS: maxmemory-policy {policy} may forget money that was spent; set noeviction or a"
            " volatile one"
        )
    return redis.asyncio.Redis.from_url(
        url,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), TRIES),
    )


async def run(client: redis.asyncio.Redis, script: str, *arguments: str | float) -> list[int]:
    """Run a script of models/llm_redis_scripts; the first argument is its prefix.

    Raises:
        AnnotatorUnavailable: Redis failed.

    """
    return await asking(client.eval(script, 1, *arguments))


async def asking(reply: Any) -> Any:
    """Return what Redis replies; its client types replies as all that they could be.

    Raises:
        AnnotatorUnavailable: it failed.

    """
    try:
        return await reply
    except (RedisError, OSError) as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> AnnotatorUnavailable:
    """Return what it means for the LLM that Redis failed."""
    return AnnotatorUnavailable(
        f"Redis, which keeps the LLM's answers and money, can't be used ({error}); see VIBESTREAM_LLM_REDIS"
    )
