"""The broker of a benchmark: Apache Kafka on loopback, or the embedded one where there is no Java.

Apache Kafka is the default: it is what users run, and the embedded broker's fetches and acknowledgements become slower
the longer it serves. Either is a child of the benchmark and shares its cores.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.benchmarks.usage import child_of_this_process
from tests.kafka.cluster import kafka_cluster
from topology.broker import embedded_broker


@dataclass(frozen=True)
class Broker:
    """A running broker."""

    url: str
    pid: int


def add_broker_option(parser: ArgumentParser) -> None:
    """Let the user choose; `options.broker` goes to `broker`."""
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")


@contextmanager
def broker(kind: str) -> Iterator[Broker]:
    """Run a broker for the length of the block."""
    if kind == "embedded":
        with embedded_broker() as url:
            yield Broker(url, child_of_this_process("tansu"))
    else:
        with kafka_cluster(1) as cluster:
            yield Broker(cluster.url, child_of_this_process("java"))
