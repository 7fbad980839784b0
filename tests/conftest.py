import os
from collections.abc import Iterator

import pytest

from tests.fakes.gemini_server import GeminiServer, gemini_in_thread
from tests.kafka.cluster import kafka_cluster
from tests.processes import Processes
from topology.broker import embedded_broker
from topology.producer import ConfirmedProducer
from topology.settings import Settings, with_changes
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
    with gemini_in_thread() as server:
        yield server


@pytest.fixture
def pipeline(settings: Settings, gemini: GeminiServer) -> Settings:
    """Settings whose review asks the fake Gemini."""
    return with_changes(settings, llm="gemini", gemini_api_key="key", gemini_base_url=gemini.url)


@pytest.fixture
def producer(pipeline: Settings) -> Iterator[ConfirmedProducer]:
    made = ConfirmedProducer(pipeline)
    yield made
    made.close()
