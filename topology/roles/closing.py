"""How what a role is made of ends."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from streams.tracing import Tracing
from topology.producer import ConfirmedProducer


def closing(
    producer: ConfirmedProducer, tracing: Tracing, *steps: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """Return what takes the steps in order and then closes tracing and producer, whichever of them fails."""

    async def close() -> None:
        async with AsyncExitStack() as stack:
            # In a thread: cut off from the broker it waits for what is under way, longer than a worker may take to end.
            stack.push_async_callback(asyncio.to_thread, producer.close)
            stack.push_async_callback(asyncio.to_thread, tracing.close)
            for step in reversed(steps):
                stack.push_async_callback(step)

    return close
