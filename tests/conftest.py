from collections.abc import Iterator

import pytest

from tests.processes import Processes
from topology.broker import embedded_broker
from topology.settings import Settings
from topology.topics import ensure_topics


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    with embedded_broker() as url:
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
