"""Who may see the page, and what their browser is told: token, host names, forms, headers."""

import hmac
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from schemas.errors import ConfigurationError
from topology.settings import Settings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_COOKIE = "vibestream"
_OPEN = ("/login", "/style.css", "/page.js", "/icon.svg")
_HEADERS = {
    # Titles come from strangers: nothing but our own script and style runs, wherever a text was put.
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""For reports that other programs wrote: styled, and nothing runs."""


class Access:
    """Checks every request.

    With a token, a visitor signs in once and gets a cookie that lasts as long as this process. Without one, the page is
    for this machine alone: it listens on loopback, and answers only under a name of loopback, so that no other site's
    page can reach it by a name that it lets point here.
    """

    def __init__(self, settings: Settings) -> None:
        """Take the token and the address.

        Raises:
            ConfigurationError: the address can be reached from elsewhere and there is no token.

        """
        self._token = settings.http_token.encode()
        self._session = secrets.token_urlsafe(32)
        self.form_key = secrets.token_urlsafe(32)
        if not self._token and settings.http_host not in ("127.0.0.1", "localhost", "::1"):
            raise ConfigurationError(
                f"VIBESTREAM_HTTP_HOST={settings.http_host} without VIBESTREAM_HTTP_TOKEN: the page can replay dead"
                " letters and swap students; set a token, or keep 127.0.0.1"
            )

    def sign_in(self, token: str) -> web.HTTPSeeOther | None:
        """Return the way in, with the cookie; None if that is not the token."""
        if not self._token or not hmac.compare_digest(token.strip().encode(), self._token):
            return None
        response = web.HTTPSeeOther("/")
        response.set_cookie(_COOKIE, self._session, httponly=True, samesite="Strict", path="/")
        return response

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let a request through, or answer it."""
        response = await self._checked(request, handler)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    async def _checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._token and request.host.rsplit(":", 1)[0] not in _LOOPBACK:
            return web.Response(status=421, text="this page answers to 127.0.0.1 and localhost only\n")
        if request.path not in _OPEN and not self._signed_in(request):
            if request.method == "GET" and request.path != "/live":
                raise web.HTTPSeeOther("/login", headers=_HEADERS)
            return web.Response(status=401, text="sign in at /login\n")
        if request.method == "POST" and request.path != "/login":
            form = await request.post()
            if not hmac.compare_digest(str(form.get("form_key", "")).encode(), self.form_key.encode()):
                return web.Response(status=403, text="the form is from before this page was started: open it again\n")
        return await handler(request)

    def _signed_in(self, request: web.Request) -> bool:
        if not self._token:
            return True
        given = request.cookies.get(_COOKIE, "")
        return hmac.compare_digest(given.encode(), self._session.encode())


def foreign(body: bytes) -> web.Response:
    """Return a page that another program wrote, allowed nothing."""
    return web.Response(body=body, content_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})
