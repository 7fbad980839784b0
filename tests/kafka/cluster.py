"""Apache Kafka on loopback: brokers that are controllers too, from jars that Maven resolves.

Every broker has a second listener that it advertises at another port: whoever runs a proxy from there can put a bad
network between the brokers and their clients.
"""

import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka.jars import classpath
from topology.broker import free_port

_START_S = 60.0
_STOP_S = 10.0
# C1 alone and the serial collector: a broker starts in half the time, and tests send it little.
_JVM = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=INFO")

_CONFIG = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.backoff.ms=500
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
"""


class KafkaNotStarted(Exception):
    """A broker did not come up; the message has the end of its log."""


class Cluster:
    """Brokers numbered from 0, each a process with its data and its log in a folder of `folder`."""

    def __init__(self, folder: Path, brokers: int) -> None:
        self._folder = folder
        self._classpath = classpath()
        self._ports = [free_port() for _ in range(brokers)]
        self._proxied = [(free_port(), free_port()) for _ in range(brokers)]
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._configure([free_port() for _ in range(brokers)])

    @property
    def url(self) -> str:
        """All brokers, as VIBESTREAM_BROKER wants them."""
        return "kafka://" + ",".join(f"127.0.0.1:{port}" for port in self._ports)

    @property
    def proxied_url(self) -> str:
        """The same through a proxy of `routes`."""
        return "kafka://" + ",".join(f"127.0.0.1:{port}" for port, _ in self._proxied)

    @property
    def routes(self) -> dict[int, int]:
        """What a proxy has to pass on: from the ports that are advertised for it, to those behind them."""
        return dict(self._proxied)

    def start_all(self) -> None:
        for index in range(len(self._ports)):
            self._spawn(index)
        for index in range(len(self._ports)):
            self._wait_until_up(index, len(self._ports))

    def start(self, index: int) -> None:
        """Start a broker that was stopped, with its data; return when it answers."""
        self._spawn(index)
        self._wait_until_up(index, len(self._running))

    def stop(self, index: int, *, kill: bool = False) -> None:
        """End a broker: it hands its partitions over first, unless it is killed."""
        self._end([index], kill)

    def stop_all(self) -> None:
        # Together they have no quorum left to hand anything over to, and nothing of them is to be kept.
        self._end(list(self._running), kill=len(self._running) > 1)

    def _configure(self, controllers: list[int]) -> None:
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers))
        replicas = min(3, len(self._ports))
        cluster_id = urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
        formatting: list[tuple[int, subprocess.Popen[bytes]]] = []
        for node, port in enumerate(self._ports):
            home = self._folder / str(node)
            home.mkdir()
            (home / "server.properties").write_text(
                _CONFIG.format(
                    node=node, voters=voters, port=port, controller_port=controllers[node], logs=home / "data",
                    proxy=self._proxied[node][0], behind=self._proxied[node][1],
                    replicas=replicas, in_sync=min(2, replicas),
                )
            )  # fmt: skip
            config = str(home / "server.properties")
            formatting.append(
                (
                    node,
                    self._java(
                        node, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", f"--config={config}"
                    ),
                )
            )
        for node, process in formatting:
            if process.wait(_START_S) != 0:
                raise KafkaNotStarted(f"the storage of broker {node} can't be formatted:\n{self._tail(node)}")

    def _spawn(self, index: int) -> None:
        self._running[index] = self._java(index, "kafka.Kafka", str(self._folder / str(index) / "server.properties"))

    def _java(self, index: int, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / str(index) / "log").open("ab") as out:
            return subprocess.Popen(
                ["java", *_JVM, "-cp", self._classpath, *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    def _wait_until_up(self, index: int, brokers: int) -> None:
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{self._ports[index]}", "log_level": 0})
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._running[index].poll() is None:
            try:
                if len(admin.list_topics(timeout=1).brokers) >= brokers:
                    return
            except KafkaException:
                pass
            time.sleep(0.05)
        raise KafkaNotStarted(f"broker {index} is not up after {_START_S:.0f} s:\n{self._tail(index)}")

    def _end(self, indexes: list[int], kill: bool) -> None:
        ending = [self._running.pop(index) for index in indexes]
        for process in ending:
            process.kill() if kill else process.terminate()
        deadline = time.monotonic() + _STOP_S
        for process in ending:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _tail(self, index: int) -> str:
        return "\n".join((self._folder / str(index) / "log").read_text(errors="replace").splitlines()[-25:])


@contextmanager
def kafka_cluster(brokers: int) -> Iterator[Cluster]:
    """Run a cluster for the length of the block; what it holds is gone at the end.

    Raises:
        JarsMissing: no Java, no Maven, or no jars.
        KafkaNotStarted: a broker did not come up; the message has the end of its log.

    """
    with TemporaryDirectory(prefix="vibestream-kafka-") as folder:
        cluster = Cluster(Path(folder), brokers)
        try:
            cluster.start_all()
            yield cluster
        finally:
            cluster.stop_all()
