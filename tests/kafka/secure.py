"""An Apache Kafka on loopback that asks for TLS and SASL, with authorities and users made for the test."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.kafka.cluster import Cluster
from topology.broker import free_port
from topology.settings import Settings

USER = "ann"
PASSWORD = "sesame-0f6b1c-password"
_MECHANISMS = ("SCRAM-SHA-512", "PLAIN")
_CREATED_S = 10.0

_CONFIG = """\
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listeners}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,MUTUAL:SSL,SASL:SASL_PLAINTEXT,BOTH:SASL_SSL
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.mutual.ssl.client.auth=required
sasl.enabled.mechanisms={mechanisms}
{logins}
"""
_LOGIN = {
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    "PLAIN": f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
}


@dataclass(frozen=True)
class Pems:
    """Files: the authority that signed the broker, what it gave a client (certificate, key), and a stranger."""

    authority: str
    certificate: str
    key: str
    stranger: str


class SecureCluster(Cluster):
    """One broker with a listener for each way to reach it."""

    def __init__(self, folder: Path) -> None:
        self.pems = _make_pems(folder)
        self.ports = {name: free_port() for name in ("TLS", "MUTUAL", "SASL", "BOTH")}
        self._keystore = folder / "broker.pem"
        super().__init__(folder, 1)

    def settings(self, listener: str) -> Settings:
        """Return what a client of a listener needs: TLS, MUTUAL, SASL (without TLS) or BOTH."""
        security = {"TLS": "ssl", "MUTUAL": "ssl", "SASL": "sasl_plaintext", "BOTH": "sasl_ssl"}[listener]
        signed_in = listener in ("SASL", "BOTH")
        return Settings(
            broker=f"kafka://127.0.0.1:{self.ports[listener]}",
            kafka_security=security,
            kafka_ca_file="" if listener == "SASL" else self.pems.authority,
            kafka_cert_file=self.pems.certificate if listener == "MUTUAL" else "",
            kafka_key_file=self.pems.key if listener == "MUTUAL" else "",
            kafka_username=USER if signed_in else "",
            kafka_password=PASSWORD if signed_in else "",
        )

    def _configure(self, controllers: list[int]) -> None:
        super()._configure(controllers)
        ports = {"PLAINTEXT": self._ports[0], **self.ports}
        config = _CONFIG.format(
            listeners=",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items()),
            controller=controllers[0],
            keystore=self._keystore,
            authority=self.pems.authority,
            mechanisms=",".join(_MECHANISMS),
            logins="\n".join(
                f"listener.name.{name}.{mechanism.lower()}.sasl.jaas.config={_LOGIN[mechanism]}"
                for name in ("sasl", "both")
                for mechanism in _MECHANISMS
            ),
        )
        with (self._folder / "0" / "server.properties").open("a") as properties:
            properties.write(config)  # of a property that stands twice the later one counts

    def add_user(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.url.removeprefix("kafka://")})
        credentials = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        wanted = UserScramCredentialUpsertion(USER, credentials, PASSWORD.encode())
        admin.alter_user_scram_credentials([wanted])[USER].result(_CREATED_S)


def _make_pems(folder: Path) -> Pems:
    authority, stranger = trustme.CA(), trustme.CA()
    broker, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@vibestream.test")
    (folder / "broker.pem").write_bytes(_pkcs8(broker) + _chain(broker))
    paths = {name: str(folder / f"{name}.pem") for name in ("authority", "certificate", "key", "stranger")}
    authority.cert_pem.write_to_path(paths["authority"])
    stranger.cert_pem.write_to_path(paths["stranger"])
    Path(paths["certificate"]).write_bytes(_chain(client))
    Path(paths["key"]).write_bytes(_pkcs8(client))
    return Pems(**paths)


def _chain(issued: trustme.LeafCert) -> bytes:
    return b"".join(pem.bytes() for pem in issued.cert_chain_pems)


def _pkcs8(issued: trustme.LeafCert) -> bytes:
    """The one form of a private key that Kafka reads from PEM."""
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@contextmanager
def secure_cluster() -> Iterator[SecureCluster]:
    """Run it for the length of the block; raises as `kafka_cluster` does."""
    with TemporaryDirectory(prefix="vibestream-kafka-") as folder:
        cluster = SecureCluster(Path(folder))
        try:
            cluster.start_all()
            cluster.add_user()
            yield cluster
        finally:
            cluster.stop_all()
