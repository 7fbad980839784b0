"""Giving freed memory back to the system while a worker runs."""

import asyncio

from streams.memory import give_back

_EVERY_S = 30.0


async def give_back_regularly(every_s: float = _EVERY_S) -> None:
    """Give back what was freed, over and over.

    A session worker that has read its changelog or follows annotations would keep several times the memory of what it
    holds.
    """
    while True:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(give_back)
