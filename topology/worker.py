"""A worker process: one Faust app, its metrics endpoint, and an orderly end."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import faust
from prometheus_client import start_http_server

from schemas.errors import ConfigurationError
from topology.runs import RunConsumer
from topology.settings import Settings

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
Crash = Callable[[BaseException], None]


@dataclass(frozen=True)
class RoleApp:
    """A Faust app, what to start beside it, and what to close after it."""

    app: faust.App
    close: Callable[[], Awaitable[None]]
    start: Callable[[Crash], None] = lambda _: None


def run_worker(settings: Settings, build: Callable[[], RoleApp]) -> None:
    """Run what `build` makes until SIGTERM or SIGINT; raise what made it crash.

    On the first signal the runs in hand are finished, for as long as the settings allow, and committed.
    """
    logging.getLogger("aiokafka").setLevel(logging.WARNING)  # its debug calls alone cost 15 % of a consumer
    asyncio.run(_run(settings, build))


async def _run(settings: Settings, build: Callable[[], RoleApp]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_once() -> None:
        stop.set()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)  # the second ends the process at once; what it had in hand comes again

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop_once)
    try:
        server, thread = start_http_server(settings.metrics_port)
    except OSError as error:
        raise ConfigurationError(
            f"VIBESTREAM_METRICS_PORT={settings.metrics_port}: {error.strerror}; choose another, or 0 for a free one"
        ) from error
    log.info("metrics at http://127.0.0.1:%d/metrics, broker %s", server.server_port, settings.broker)
    failures: list[BaseException] = []

    def crash(error: BaseException) -> None:
        failures.append(error)
        stop.set()

    role = build()
    try:
        role.start(crash)
        await role.app.start()
        await _first(stop.wait(), role.app.wait_until_stopped())
        if role.app.crash_reason is not None:
            failures.append(role.app.crash_reason)
        elif isinstance(role.app.consumer, RunConsumer):
            log.info("finishing what is in hand")
            await role.app.consumer.drain(settings.drain_s)
    finally:
        log.info("stopping")
        await role.app.stop()
        await role.close()
        server.shutdown()
        server.server_close()
        thread.join()
    if failures:
        raise failures[0]


async def _first(*events: Awaitable[object]) -> None:
    waiting = [asyncio.ensure_future(event) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for future in waiting:
        future.cancel()
