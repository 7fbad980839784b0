"""One pipeline for all faults, and their table at the end."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from tests.faults.live import Live, live_pipeline
from tests.faults.outcomes import OUTCOMES, Outcome, table
from tests.faults.proxy import Proxy, proxy_in_thread
from tests.kafka.cluster import Cluster
from topology.broker import embedded_broker, free_port


@pytest.fixture(scope="session")
def proxied_broker(named_broker: str, cluster: Cluster | None) -> Iterator[tuple[str, Proxy | None]]:
    """The URL of a broker, and the proxy that it is reached through; None for a broker that we did not start."""
    if cluster is not None:
        with proxy_in_thread(cluster.routes) as proxy:
            yield cluster.proxied_url, proxy
    elif named_broker:
        yield named_broker, None
    else:
        route = (free_port(), free_port())
        with proxy_in_thread(dict([route])) as proxy, embedded_broker(route) as url:
            yield url, proxy


@pytest.fixture(scope="session")
def live(
    proxied_broker: tuple[str, Proxy | None], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Live]:
    """The pipeline that all faults of the session are done to, one after the other."""
    url, proxy = proxied_broker
    report = request.config.stash.setdefault(OUTCOMES, [])
    with live_pipeline(url, proxy, tmp_path_factory.mktemp("live"), report) as pipeline:
        yield pipeline


@pytest.fixture
def network(live: Live) -> Iterator[Proxy]:
    """The network between the pipeline and its broker; good again afterwards."""
    if live.proxy is None:
        pytest.skip(f"the network of {live.settings.broker} is not ours to break")
    yield live.proxy
    live.proxy.heal()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what the faults did over to the process that shows it, if this is one of several that run tests."""
    outcomes = session.config.stash.get(OUTCOMES, [])
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["outcomes"] = [asdict(outcome) for outcome in outcomes]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take it over; one that crashed has nothing to say."""
    outcomes = getattr(node, "workeroutput", {}).get("outcomes", [])
    node.config.stash.setdefault(OUTCOMES, []).extend(Outcome(**outcome) for outcome in outcomes)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what the faults did."""
    outcomes = config.stash.get(OUTCOMES, [])
    if outcomes:
        terminalreporter.section("faults")
        for line in table(outcomes):
            terminalreporter.write_line(line)
