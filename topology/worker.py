"""A worker process: one Faust app, its metrics endpoint, and an orderly end."""

import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import faust

from monitoring.health import Health
from monitoring.serve import Route
from topology.http_port import open_port
from topology.memory import give_back_regularly
from topology.refusal import check_access
from topology.runs import RunConsumer
from topology.settings import Settings
from topology.vital_signs import GROUP, STORE, VitalSigns

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STOP_S = 15.0
_GC_THRESHOLD = 20_000  # objects; Python looks through the youngest after every 700
_MODELS = "models and data"
Crash = Callable[[BaseException], None]


@dataclass(frozen=True)
class RoleApp:
    """A Faust app, what to start beside it, what to close after it, and what it answers by HTTP.

    `reach_store` raises Unavailable while the store that it needs does not answer; it may block for seconds.
    """

    app: faust.App
    close: Callable[[], Awaitable[None]]
    start: Callable[[Crash], None] = lambda _: None
    routes: Mapping[str, Route] = field(default_factory=dict[str, Route])
    reach_store: Callable[[], None] | None = None


def run_worker(settings: Settings, build: Callable[[], RoleApp]) -> None:
    """Run what `build` makes until SIGTERM or SIGINT; raise what made it crash.

    A broker that refuses the settings is a ConfigurationError at once; one that is not there, or has no topics, is
    BrokerUnavailable after 10 s. Once the worker runs, it waits for a broker that goes away.

    On the first signal the runs in hand are finished, for as long as the settings allow, and committed. A worker that
    is cut off from its broker, and so can't leave its group in time, ends by SIGTERM then.
    """
    logging.getLogger("aiokafka").setLevel(logging.WARNING)  # its debug calls alone cost 15 % of a consumer
    check_access(settings)  # Faust would try for ever, and say so in tracebacks
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
    health = Health([_MODELS, GROUP])
    server = open_port(settings, health)
    failures: list[BaseException] = []

    def crash(error: BaseException) -> None:
        failures.append(error)
        stop.set()

    role = build()
    health.set_ready(_MODELS)
    if role.reach_store is not None:
        health.set_ready(STORE)
    server.add(role.routes)
    # What is there now stays: to look through all of it again and again cost a fifth of annotating, in pauses of 50 ms.
    # And a run makes thousands of objects that end with it, hardly any of them in cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    signs = VitalSigns(settings, role.app, health, role.reach_store)
    # It returns when the group has given this worker its partitions, which may take long, and so may leaving the group.
    starting = asyncio.ensure_future(role.app.start())
    giving_back = asyncio.ensure_future(give_back_regularly())
    try:
        role.start(crash)
        await _first(stop.wait(), asyncio.shield(starting))
        if starting.done():
            await starting
            await _first(stop.wait(), role.app.wait_until_stopped())
        if role.app.crash_reason is not None:
            failures.append(role.app.crash_reason)
        elif isinstance(role.app.consumer, RunConsumer):
            log.info("finishing what is in hand")
            await role.app.consumer.drain(settings.drain_s)
    finally:
        log.info("stopping")
        health.set_ready(GROUP, False)
        giving_back.cancel()
        await _end(role, failures)
        await asyncio.to_thread(signs.close)
        server.close()
    if failures:
        raise failures[0]


async def _first(*events: Awaitable[object]) -> None:
    waiting = [asyncio.ensure_future(event) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for future in waiting:
        future.cancel()


async def _end(role: RoleApp, failures: Sequence[BaseException]) -> None:
    """Leave the group and close everything; end the process where that does not come to an end.

    Whoever is cut off from the broker waits for its answers, in threads that can't be stopped. All that was confirmed
    is durable, and the rest comes again, so there is nothing to wait for.
    """

    async def end() -> None:
        await role.app.stop()
        await role.close()

    ending = asyncio.ensure_future(end())
    await asyncio.wait([ending], timeout=_STOP_S)
    if ending.done():
        await ending
        return
    log.warning("not stopped within %.0f s: the broker does not answer; ending at once", _STOP_S)
    for failure in failures:
        log.error("ended by %s: %s", type(failure).__name__, failure)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
