"""The HTTP endpoints of a process, in a thread of their own: a busy event loop can't silence them."""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from threading import Thread
from urllib.parse import unquote

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

Route = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Runs on the server's own loop, not the worker's: it may read what other threads write, and must not block on them.

What the braces of its path matched is in the request: `request[MATCHED]["session_id"]`.
"""
MATCHED = web.RequestKey("matched", dict[str, str])

_log = logging.getLogger(__name__)
# aiohttp would log a traceback for every malformed request, and so let whoever reaches the port fill the log.
_SILENT = logging.Logger("http", logging.CRITICAL + 1)

_LIFE_S = 10.0  # Prometheus gives up a scrape after as long
_CONNECTIONS = 64
_LINE_BYTES = 2_048
_FIELD_BYTES = 4_096
_FIELDS = 50


class HttpServer:
    """Answers a few paths, one request a connection.

    What a client can take is bounded: a request has 2 KiB for its line and 50 headers of 4 KiB, its body is read only
    by a route that asks for it with `read_body`, and a connection ends after ten seconds however far it came. Of 64
    connections the oldest gives way to a new one, so clients that send or read slowly take no place from a scrape,
    which needs milliseconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        routes: Mapping[str, Route],
        token: str = "",
        *,
        public: Mapping[str, Route] | None = None,
        life_s: float = _LIFE_S,
    ) -> None:
        """Listen on `host` (port 0 picks a free one); with a token, answer only who sends it as a bearer.

        What is `public` is answered to everybody.

        `routes` are by method and path: "GET /metrics", "GET /sessions/{session_id}/candidates". `life_s` bounds each
        connection.

        Raises:
            OSError: the address can't be listened on.

        """
        self._host = host
        self._public = dict(public or {})
        self._routes = {**routes, **self._public}
        self._token = token.encode()
        self._life_s = life_s
        self._started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = Thread(target=self._run, args=(port,), name="http", daemon=True)
        self._thread.start()
        self.port, self._loop, self._stop = self._started.result()

    def add(self, routes: Mapping[str, Route]) -> None:
        """Answer these as well from now on."""
        self._routes = {**self._routes, **routes}

    def close(self) -> None:
        """Stop listening and end the connections."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self, port: int) -> None:
        try:
            asyncio.run(self._serve(port))
        except OSError as error:
            self._started.set_exception(error)

    async def _serve(self, port: int) -> None:
        runner = web.ServerRunner(_BoundedServer(self._respond, self._life_s), shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, port).start()
            stop = asyncio.Event()
            self._started.set_result((runner.addresses[0][1], asyncio.get_running_loop(), stop))
            await stop.wait()
        finally:
            await runner.cleanup()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._answer(request)
        response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._allowed(request) and not _find(self._public, request.rel_url.raw_path):
            return web.Response(status=401, text="give the token\n", headers={"WWW-Authenticate": "Bearer"})
        found = _find(self._routes, request.rel_url.raw_path)
        if not found:
            return web.Response(status=404, text=f"there are: {', '.join(self._routes)}\n")
        if request.method not in found:
            allowed = ", ".join(found)
            return web.Response(status=405, text=f"{allowed} only\n", headers={"Allow": allowed})
        route, matched = found[request.method]
        request[MATCHED] = matched
        try:
            return await route(request)
        except (ConnectionError, web.RequestPayloadError):
            return web.Response(status=400, text="the body did not arrive whole\n")
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            return web.Response(status=500, text="see the log\n")

    def _allowed(self, request: web.BaseRequest) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        sent = given.strip().encode("utf-8", "surrogateescape")
        return not self._token or (scheme.lower() == "bearer" and hmac.compare_digest(sent, self._token))


class _BoundedServer(web.Server):
    """aiohttp bounds neither how long a request may take to arrive nor how many connections there are."""

    def __init__(self, respond: Route, life_s: float) -> None:
        super().__init__(
            respond,
            logger=_SILENT,
            access_log=None,
            lingering_time=0,
            auto_decompress=False,  # what is small may become large
            max_line_size=_LINE_BYTES,
            max_field_size=_FIELD_BYTES,
            max_headers=_FIELDS,
        )
        self._life_s = life_s
        self._open: dict[RequestHandler, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._open) >= _CONNECTIONS:
            oldest, end = self._open.pop(next(iter(self._open)))
            end.cancel()
            oldest.abort()
        end = asyncio.get_running_loop().call_later(self._life_s, transport.abort)
        self._open[handler] = transport, end

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        _, end = self._open.pop(handler, (None, None))
        if end is not None:
            end.cancel()
        super().connection_lost(handler, exc)


def _find(routes: Mapping[str, Route], raw_path: str) -> dict[str, tuple[Route, dict[str, str]]]:
    """Return the routes of a path by method, each with what its braces matched."""
    given = raw_path.split("/")
    found: dict[str, tuple[Route, dict[str, str]]] = {}
    for name, route in routes.items():
        method, _, template = name.partition(" ")
        wanted = template.split("/")
        if len(wanted) == len(given) and all(
            w == g or (w[:1] == "{" and g) for w, g in zip(wanted, given, strict=True)
        ):
            matched = {w[1:-1]: unquote(g) for w, g in zip(wanted, given, strict=True) if w[:1] == "{"}
            found[method] = route, matched
    return found


async def read_body(request: web.BaseRequest, most: int) -> bytes | None:
    """Return the body of a request; None, and the rest unread, if it has more than `most` bytes.

    Raises:
        ConnectionError: the client went away.

    """
    if (request.content_length or 0) > most:
        return None
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


async def metrics_page(request: web.BaseRequest) -> web.Response:
    """Return every metric of this process, in the format that the client asks for."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    response = web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})
    response.enable_compression()
    return response
