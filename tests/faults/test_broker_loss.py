"""One of three brokers is killed and brought back, under load."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.live import Live, live_pipeline
from tests.faults.outcomes import OUTCOMES
from tests.kafka.cluster import Cluster, kafka_cluster
from tests.kafka.jars import JarsMissing

AWAY_S = 10


@pytest.fixture
def three(named_broker: str, cluster: Cluster | None) -> Iterator[Cluster]:
    """The session's cluster where it has three brokers, otherwise one of the test's own."""
    if cluster is not None and named_broker == "kafka3":
        yield cluster
        return
    try:
        with kafka_cluster(3) as started:
            yield started
    except JarsMissing as missing:
        pytest.skip(str(missing))


def test_one_of_three_brokers_killed_and_brought_back(
    three: Cluster, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def kill(_: Live) -> int:
        three.stop(1, kill=True)
        time.sleep(AWAY_S)
        three.start(1)
        return 1

    report = request.config.stash.setdefault(OUTCOMES, [])
    with live_pipeline(three.url, None, tmp_path, report, replication=3) as live:
        live.suffer("one of three brokers killed", live.plain("broker-loss"), kill)
