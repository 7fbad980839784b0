"""A bad network on loopback: a TCP proxy that delays, holds back, cuts and refuses what passes through it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from random import Random
from threading import Thread
from typing import Any

_CHUNK = 64 * 1024
_CHUNKS_UNDER_WAY = 64
_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST, and what was not sent is lost
_CONTROL_S = 10.0

_End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Passes connections from ports of 127.0.0.1 on to others. Its methods return when what they do is done."""

    def __init__(self, routes: Mapping[int, int], loop: asyncio.AbstractEventLoop, chance: Random) -> None:
        """`routes` leads from the ports to listen on to the ports behind them."""
        self._routes = routes
        self._loop = loop
        self._chance = chance
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._delay_s = (0.0, 0.0)
        self._cut = 0.0
        self._passing = asyncio.Event()
        self._passing.set()

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    def delay(self, least_s: float, most_s: float) -> None:
        """Let every piece of data take so long, each way; the order stays."""
        self._delay_s = (least_s, most_s)

    def cut(self, share: float) -> None:
        """Reset the connection in the midst of this share of all pieces of data."""
        self._cut = share

    def hold(self) -> None:
        """Go on accepting connections and pass nothing until `heal`, which lets go of what was held back."""
        self._call(self._hold())

    def refuse(self) -> None:
        """Reset all connections and refuse new ones."""
        self._call(self._refuse())

    def reset(self) -> None:
        """Reset all connections once."""
        self._call(self._reset())

    def heal(self) -> None:
        """Be a good network again."""
        self._call(self._heal())

    def _call(self, change: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(change, self._loop).result(_CONTROL_S)

    async def _hold(self) -> None:
        self._passing.clear()

    async def _refuse(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        await self._reset()

    async def _reset(self) -> None:
        for writer in list(self._writers):
            _abort(writer)

    async def _heal(self) -> None:
        self._delay_s, self._cut = (0.0, 0.0), 0.0
        self._passing.set()
        await self.listen()

    async def listen(self) -> None:
        """Accept connections, unless that is so already."""
        if not self._servers:
            for port, target in self._routes.items():
                self._servers.append(await asyncio.start_server(partial(self._accept, target), "127.0.0.1", port))

    async def close(self) -> None:
        """End everything."""
        await self._refuse()
        while self._connections:
            for connection in self._connections:
                connection.cancel()
            await asyncio.wait(self._connections)

    async def _accept(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connect(target, (reader, writer)))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connect(self, target: int, near: _End) -> None:
        async with self._known(near[1]):
            try:
                far = await asyncio.open_connection("127.0.0.1", target)
            except OSError:
                return
            async with self._known(far[1]):
                ways = [asyncio.create_task(self._pass(*way)) for way in ((near[0], far[1]), (far[0], near[1]))]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    @asynccontextmanager
    async def _known(self, writer: asyncio.StreamWriter) -> AsyncIterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            _abort(writer)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pass data on until the source ends or either side is reset."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_UNDER_WAY)
        reading = asyncio.create_task(self._read(source, under_way))
        try:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(due - self._loop.time())
                await self._passing.wait()
                if not data:
                    return
                if self._chance.random() < self._cut:
                    sink.write(data[: self._chance.randrange(len(data))])
                    return
                sink.write(data)
                await sink.drain()
        except OSError:
            return
        finally:
            reading.cancel()

    async def _read(self, source: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"more"
        while data:
            try:
                data = await source.read(_CHUNK)
            except OSError:
                data = b""
            await under_way.put((self._loop.time() + self._chance.uniform(*self._delay_s), data))


def _abort(writer: asyncio.StreamWriter) -> None:
    end: socket.socket | None = writer.get_extra_info("socket")
    if end is not None and end.fileno() >= 0:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@contextmanager
def proxy_in_thread(routes: Mapping[int, int], seed: int = 1) -> Iterator[Proxy]:
    """Run a proxy in a thread of its own for the length of the block."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="proxy")
    proxy = Proxy(routes, loop, Random(seed))
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(proxy.listen(), loop).result(_CONTROL_S)
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.close(), loop).result(_CONTROL_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CONTROL_S)
        loop.close()
