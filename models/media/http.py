"""Media over http(s): checked at every hop, at the very address that is connected to, and bounded."""

import asyncio
import socket
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from models.media.rules import MediaRules, Target
from schemas.errors import MediaProblem

_HOPS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_PIECE = 2**20


class PassingFault(Exception):
    """Another try may succeed."""


class _PrivateAddress(OSError):
    """A name leads to where nothing may be fetched."""


class _CheckedResolver(AbstractResolver):
    """Hands out only addresses that the rules permit, so that what is checked is what is connected to."""

    def __init__(self, rules: MediaRules) -> None:
        self._rules = rules
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        permitted = [one for one in found if self._rules.permits(one["host"])]
        if found and not permitted:
            raise _PrivateAddress(f"{host} leads to a private address")
        return permitted

    async def close(self) -> None:
        await self._inner.close()


class HttpSource:
    """Fetches over http(s); a session of its own, without cookies, proxies or anybody's credentials."""

    def __init__(self, rules: MediaRules, connections: int) -> None:
        self._rules = rules
        self._connections = connections
        self._session: ClientSession | None = None

    async def fetch(self, target: Target, into: Path, max_bytes: int) -> None:
        """Write what lies at `target` to `into`.

        Raises:
            MediaProblem: refused, unavailable or too_large.
            PassingFault: the host is away or busy.

        """
        for _ in range(_HOPS + 1):
            url = URL(target.uri, encoded=True)
            if (url.host or "").rstrip(".") != target.host or url.port != target.port:
                raise MediaProblem("refused", "media_uri names two hosts, by how it is read")
            onward = await self._get(url, target, into, max_bytes)
            if onward is None:
                return
            target = self._hop(onward, target)
        raise MediaProblem("refused", f"{target.shown} redirects more than {_HOPS} times")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _hop(self, onward: str, target: Target) -> Target:
        try:
            following = self._rules.check(onward)
        except MediaProblem as error:
            raise MediaProblem(error.status, f"{target.shown} redirects: {error}") from error
        if following.scheme not in ("http", "https"):
            raise MediaProblem("refused", f"{target.shown} redirects to {following.shown}")
        return following

    async def _get(self, url: URL, target: Target, into: Path, max_bytes: int) -> str | None:
        """Write the body to `into`, or return where it is to be found instead."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "vibestream"}
        try:
            async with self._open().get(url, allow_redirects=False, headers=headers) as response:
                if response.status in _REDIRECTS and "Location" in response.headers:
                    return str(url.join(URL(response.headers["Location"], encoded=True)))
                if response.status in _TRANSIENT:
                    raise PassingFault(f"{target.shown} answers {response.status}")
                if response.status != 200:
                    raise MediaProblem("unavailable", f"{target.shown} answers {response.status}")
                if (response.content_length or 0) > max_bytes:
                    raise too_large(response.content_length or 0, max_bytes)
                await _save(response, into, max_bytes)
        except _PrivateAddress as error:
            raise _private(target) from error
        except ClientError as error:
            if isinstance(getattr(error, "os_error", None), _PrivateAddress):
                raise _private(target) from error
            raise PassingFault(f"{target.shown}: {type(error).__name__}") from error
        except ValueError as error:  # yarl, of a Location
            raise MediaProblem("refused", f"{target.shown} redirects to what is no URL") from error
        return None

    def _open(self) -> ClientSession:
        if self._session is None:
            connector = TCPConnector(
                limit=self._connections, resolver=_CheckedResolver(self._rules), use_dns_cache=False
            )
            # Time is bounded by who calls, for all hops and tries together.
            self._session = ClientSession(
                connector=connector,
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
                timeout=ClientTimeout(total=None),
            )
        return self._session


async def _save(response: Any, into: Path, max_bytes: int) -> None:
    """Write the body in large pieces, off the event loop."""
    size, waiting = 0, bytearray()
    with await asyncio.to_thread(into.open, "wb") as file:
        async for piece in response.content.iter_chunked(2**16):
            size += len(piece)
            if size > max_bytes:
                raise too_large(None, max_bytes)
            waiting += piece
            if len(waiting) >= _PIECE:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(file.write, bytes(waiting))


def too_large(size: int | None, max_bytes: int) -> MediaProblem:
    """Return the problem of a file that is over the limit; `size` None: it went on beyond."""
    has = f"it has {size / 2**20:.0f} MB" if size else "it goes on"
    return MediaProblem("too_large", f"{has}, and at most {max_bytes / 2**20:g} MB are fetched")


def _private(target: Target) -> MediaProblem:
    return MediaProblem(
        "refused", f"{target.shown} leads to a private address; VIBESTREAM_MEDIA_PRIVATE=true would allow that"
    )
