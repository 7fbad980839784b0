"""A server of an event loop, in a thread of its own, for callers that block."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def in_thread(serve: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    started: Future[T] = Future()

    async def run_until_stopped() -> None:
        async with serve() as server:
            started.set_result(server)
            await stop.wait()

    def run() -> None:
        loop.run_until_complete(run_until_stopped())
        loop.close()

    thread = Thread(target=run)
    thread.start()
    try:
        yield started.result(10)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
