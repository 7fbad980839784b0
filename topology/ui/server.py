"""The page's process: its routes, and its beginning and end."""

import asyncio
import logging
import signal
from importlib.resources import files

from aiohttp import web
from jinja2 import Environment

from schemas.errors import ConfigurationError, Unavailable, VibestreamError
from topology.settings import Settings
from topology.ui.access import Access, Handler
from topology.ui.flow import FlowPages
from topology.ui.golden import GoldenPages
from topology.ui.letters import LetterPages
from topology.ui.pages import environment
from topology.ui.recent import Recent
from topology.ui.sessions import SessionPages
from topology.ui.students import StudentPages
from topology.ui.tail import Tail
from topology.ui.videos import VideoPages

log = logging.getLogger(__name__)
_MOST_BYTES = 256 * 1024


def run_page(settings: Settings, port: int) -> None:
    """Serve the page until SIGTERM or SIGINT; port 0 picks a free one and logs it.

    Raises:
        BrokerUnavailable: the broker does not answer, or a topic is not there.
        ConfigurationError: the port is taken, or the page would be open to everybody.

    """
    asyncio.run(_run(settings, port))


async def _run(settings: Settings, port: int) -> None:
    access, recent = Access(settings), Recent()
    tail = await asyncio.to_thread(Tail, settings, recent)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    application, flow = _application(settings, access, recent, tail)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.http_host, port).start()
        except OSError as error:
            raise ConfigurationError(
                f"--port {port} on VIBESTREAM_HTTP_HOST={settings.http_host}: {error.strerror}; choose another"
            ) from error
        log.info("the page is at http://%s:%d", settings.http_host, runner.addresses[0][1])
        await stop.wait()
    finally:
        flow.stop()
        await runner.cleanup()
        await asyncio.to_thread(tail.close)


def _application(settings: Settings, access: Access, recent: Recent, tail: Tail) -> tuple[web.Application, FlowPages]:
    templates = environment()
    flow, videos, sessions = (
        FlowPages(templates, recent, tail),
        VideoPages(settings, templates, recent),
        SessionPages(settings, templates, recent),
    )
    letters = LetterPages(settings, templates, access.form_key)
    students, golden = StudentPages(settings, templates, access.form_key), GoldenPages(settings, templates)

    async def login(request: web.Request) -> web.Response:
        wrong = False
        if request.method == "POST":
            entered = access.sign_in(str((await request.post()).get("token", "")))
            if entered is not None:
                raise entered
            wrong = True
        page = templates.get_template("login.html").render(view="login", wrong=wrong)
        return web.Response(status=403 if wrong else 200, text=page, content_type="text/html")

    application = web.Application(client_max_size=_MOST_BYTES, middlewares=[access.check, _errors(templates)])
    application.add_routes(
        [
            web.get("/", flow.page),
            web.get("/live", flow.live),
            web.get("/videos", videos.index),
            web.get("/video", videos.one),
            web.get("/sessions", sessions.index),
            web.get("/session", sessions.one),
            web.get("/letters", letters.index),
            web.get("/letter", letters.one),
            web.post("/letters/replay", letters.replay),
            web.post("/letters/drop", letters.drop),
            web.get("/students", students.index),
            web.post("/students/promote", students.promote),
            web.post("/students/rollback", students.rollback),
            web.get("/golden", golden.index),
            web.get("/golden/report", golden.report),
            web.get("/login", login),
            web.post("/login", login),
            web.get("/style.css", _asset("style.css", "text/css")),
            web.get("/page.js", _asset("page.js", "text/javascript")),
            web.get("/icon.svg", _asset("icon.svg", "image/svg+xml")),
        ]
    )
    return application, flow


def _asset(name: str, content_type: str) -> Handler:
    content = (files("monitoring") / "ui" / name).read_bytes()

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type=content_type)

    return serve


def _errors(templates: Environment):
    template = templates.get_template("error.html")

    def page(status: int, text: str) -> web.Response:
        return web.Response(status=status, text=template.render(view="", text=text), content_type="text/html")

    @web.middleware
    async def show(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Say on a page what went wrong, and what to do."""
        try:
            return await handler(request)
        except web.HTTPClientError as error:
            return page(error.status, error.text or error.reason)
        except Unavailable as error:
            return page(503, str(error))
        except VibestreamError as error:
            return page(400, str(error))

    return show
