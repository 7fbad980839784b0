import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import Future
from threading import Thread

import pytest

from tests.fakes.gemini_server import GeminiServer, gemini_server
from tests.kafka.cluster import kafka_cluster
from tests.processes import Processes
from topology.broker import embedded_broker
from topology.settings import Settings
from topology.topics import ensure_topics


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """The URL of what VIBESTREAM_TEST_BROKER names: nothing (embedded), kafka, kafka3 or kafka://host:port."""
    match os.environ.get("VIBESTREAM_TEST_BROKER", ""):
        case "":
            with embedded_broker() as url:
                yield url
        case "kafka" | "kafka3" as name:
            with kafka_cluster(3 if name == "kafka3" else 1) as cluster:
                yield cluster.url
        case url:
            yield url


@pytest.fixture
def settings(broker: str, request: pytest.FixtureRequest, tmp_path) -> Settings:
    """Settings with topics of their own on the shared broker."""
    prefix = f"{abs(hash(request.node.nodeid)):x}."
    settings = Settings(
        broker=broker,
        topic_prefix=prefix,
        store_uri=str(tmp_path / "lancedb"),
        session_timeout_s=6,
        commit_interval_s=0.3,
    )
    ensure_topics(settings)
    return settings


@pytest.fixture
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.stop_all()


@pytest.fixture
def gemini() -> Iterator[GeminiServer]:
    """A fake Gemini in a thread of its own, so that a test may block."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    started: Future[GeminiServer] = Future()

    async def serve() -> None:
        async with gemini_server() as server:
            started.set_result(server)
            await stop.wait()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = Thread(target=run)
    thread.start()
    yield started.result(10)
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
