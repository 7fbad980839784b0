import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.fakes.gemini_server import GeminiServer, gemini_in_thread
from tests.kafka.cluster import Cluster, kafka_cluster
from tests.processes import Processes
from topology.broker import embedded_broker
from topology.producer import ConfirmedProducer
from topology.settings import Settings, with_changes
from topology.topics import ensure_topics


@pytest.fixture(scope="session")
def named_broker() -> str:
    """What VIBESTREAM_TEST_BROKER names: nothing (embedded), kafka, kafka3 or kafka://host:port."""
    return os.environ.get("VIBESTREAM_TEST_BROKER", "")


@pytest.fixture(scope="session")
def cluster(named_broker: str) -> Iterator[Cluster | None]:
    """The one Apache Kafka of the session, if the tests are to run on one that they start."""
    if named_broker in ("kafka", "kafka3"):
        with kafka_cluster(3 if named_broker == "kafka3" else 1) as started:
            yield started
    else:
        yield None


@pytest.fixture(scope="session")
def broker(named_broker: str, cluster: Cluster | None) -> Iterator[str]:
    """The URL of the broker that the tests share."""
    if cluster is not None:
        yield cluster.url
    elif named_broker:
        yield named_broker
    else:
        with embedded_broker() as url:
            yield url


@pytest.fixture
def settings(broker: str, tmp_path) -> Settings:
    """Settings with topics of their own on the shared broker, which may be one that lives on."""
    prefix = f"{uuid4().hex[:12]}."
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
