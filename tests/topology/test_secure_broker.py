"""An Apache Kafka that asks for TLS and SASL: every client gets in, and who does not is told in one line why."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka.admin import AdminClient
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from schemas.annotation import Annotation
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from tests.kafka.jars import JarsMissing
from tests.kafka.secure import PASSWORD, USER, SecureCluster, secure_cluster
from tests.processes import Processes, wait_until
from topology.kafka import Committed, client_config, read_topic
from topology.security import faust_credentials
from topology.settings import Settings, environment, with_changes
from topology.topics import ANNOTATIONS, VIDEO_UPLOADS, ensure_topics

WAYS = [
    ("TLS", "SCRAM-SHA-512"),
    ("MUTUAL", "SCRAM-SHA-512"),
    ("SASL", "SCRAM-SHA-512"),
    ("SASL", "PLAIN"),
    ("BOTH", "SCRAM-SHA-512"),
    ("BOTH", "PLAIN"),
]
WRONG = "wrong-5e7c21-password"


@pytest.fixture(scope="module")
def secured() -> Iterator[SecureCluster]:
    try:
        with secure_cluster() as started:
            yield started
    except JarsMissing as missing:
        pytest.skip(str(missing))


def vibestream(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "topology.cli", *arguments],
        env=environment(settings), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def one_line(process: subprocess.Popen[str]) -> str:
    """What a refused command says, which is one line, with exit code 2 and without any password."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, out + err
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("vibestream: ")
    assert PASSWORD not in err
    assert WRONG not in err
    return err


@pytest.mark.parametrize(("listener", "mechanism"), WAYS)
async def test_both_kinds_of_client_get_in(secured: SecureCluster, listener: str, mechanism: str) -> None:
    prefix = f"{listener}-{mechanism}."
    settings = with_changes(secured.settings(listener), kafka_mechanism=mechanism, topic_prefix=prefix, partitions=1)
    ensure_topics(settings)
    topic = settings.topic(VIDEO_UPLOADS)
    assert topic in AdminClient(client_config(settings)).list_topics(timeout=10).topics
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap, **credentials_to_aiokafka_auth(faust_credentials(settings), None)
    )
    await consumer.start()
    assert topic in await consumer.topics()
    await consumer.stop()


@pytest.mark.parametrize("listener", ["MUTUAL", "BOTH"])
def test_a_worker_and_the_commands_do_their_work(
    secured: SecureCluster, processes: Processes, tmp_path: Path, listener: str
) -> None:
    settings = with_changes(
        secured.settings(listener), topic_prefix=f"work-{listener}.", partitions=2, store_uri=str(tmp_path / "lancedb"),
        session_timeout_s=6, commit_interval_s=0.3,
    )  # fmt: skip
    ensured, _ = vibestream(settings, "topics", "ensure").communicate(timeout=60)
    assert f"created {settings.topic(VIDEO_UPLOADS)}" in ensured
    uploads = tmp_path / "uploads.jsonl"
    videos = [
        VideoUpload(schema_version=1, video_id=f"v{i}", creator_id="c", uploaded_at_ms=1, title=f"A calm morning {i}")
        for i in range(20)
    ]
    uploads.write_bytes(b"\n".join(encode(video) for video in videos))
    replayed, _ = vibestream(settings, "replay", str(uploads), VIDEO_UPLOADS).communicate(timeout=60)
    assert "20 events sent" in replayed

    log = tmp_path / "annotate.log"
    worker = processes.start(settings, "-m", "topology.cli", "worker", "annotate", log=log)
    committed = Committed(settings, "annotate", VIDEO_UPLOADS)
    wait_until(lambda: committed.count() == 20 or worker.poll() is not None, 60, "the uploads are annotated")
    committed.close()
    worker.terminate()
    assert worker.wait(30) == 0, log.read_text()
    decoder = Decoder(Annotation)
    annotated = {decoder.decode(record.value or b"").video_id for record in read_topic(settings, ANNOTATIONS)}
    assert annotated == {video.video_id for video in videos}

    audit, _ = vibestream(settings, "audit").communicate(timeout=60)
    assert json.loads(audit)["uploads"] == {"records": 20, "videos": 20, "dead_lettered": 0, "lost": 0}
    assert PASSWORD not in ensured + replayed + audit + log.read_text()


@dataclass(frozen=True)
class Refused:
    listener: str
    changes: dict[str, object]
    says: tuple[str, ...]


REFUSED = {
    "wrong password": Refused(
        "BOTH", {"kafka_password": WRONG}, (f"VIBESTREAM_KAFKA_USERNAME='{USER}'", "VIBESTREAM_KAFKA_PASSWORD")
    ),
    "wrong password, in plain": Refused(
        "SASL", {"kafka_password": WRONG, "kafka_mechanism": "PLAIN"}, ("VIBESTREAM_KAFKA_PASSWORD", "PLAIN")
    ),
    "mechanism that is not taken": Refused(
        "BOTH", {"kafka_mechanism": "SCRAM-SHA-256"}, ("VIBESTREAM_KAFKA_MECHANISM=SCRAM-SHA-256",)
    ),
    "no authority": Refused("BOTH", {"kafka_ca_file": ""}, ("VIBESTREAM_KAFKA_CA_FILE=''",)),
    "another host's name": Refused("TLS", {"broker": "kafka://localhost:{TLS}"}, ("for another host",)),
    "no client certificate": Refused(
        "MUTUAL", {"kafka_cert_file": "", "kafka_key_file": ""}, ("VIBESTREAM_KAFKA_CERT_FILE=''",)
    ),
    "plaintext to TLS": Refused("TLS", {"kafka_security": "plaintext"}, ("VIBESTREAM_KAFKA_SECURITY=plaintext", "ssl")),
    "plaintext to SASL": Refused("SASL", {"kafka_security": "plaintext"}, ("VIBESTREAM_KAFKA_SECURITY=plaintext",)),
    "no sign-in": Refused("BOTH", {"kafka_security": "ssl"}, ("VIBESTREAM_KAFKA_SECURITY=ssl", "sasl_ssl")),
    "TLS to plaintext": Refused(
        "BOTH", {"broker": "kafka://127.0.0.1:{SASL}"}, ("speaks no TLS", "VIBESTREAM_KAFKA_SECURITY=sasl_ssl")
    ),
    "sign-in where none is": Refused(
        "BOTH", {"broker": "kafka://127.0.0.1:{TLS}"}, ("asks nobody to sign in", "VIBESTREAM_KAFKA_SECURITY=sasl_ssl")
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_worker_that_is_refused_ends_with_one_line_that_names_the_setting(secured: SecureCluster, case: str) -> None:
    refused = REFUSED[case]
    changes = {
        name: value.format(**secured.ports) if name == "broker" and isinstance(value, str) else value
        for name, value in refused.changes.items()
    }
    said = one_line(vibestream(with_changes(secured.settings(refused.listener), **changes), "worker", "annotate"))
    for part in refused.says:
        assert part in said


def test_a_worker_whose_authority_did_not_sign_the_broker_says_so(secured: SecureCluster) -> None:
    settings = with_changes(secured.settings("BOTH"), kafka_ca_file=secured.pems.stranger)
    assert f"VIBESTREAM_KAFKA_CA_FILE='{secured.pems.stranger}'" in one_line(vibestream(settings, "worker", "annotate"))


def test_commands_that_are_refused_end_with_the_same_line(secured: SecureCluster, tmp_path: Path) -> None:
    settings = with_changes(secured.settings("BOTH"), kafka_password=WRONG, store_uri=str(tmp_path / "lancedb"))
    events = tmp_path / "uploads.jsonl"
    events.write_text("{}")
    started = [
        vibestream(settings, *arguments)
        for arguments in (("topics", "ensure"), ("replay", str(events), VIDEO_UPLOADS), ("audit",))
    ]
    said = {one_line(process) for process in started}
    assert len(said) == 1
    assert "VIBESTREAM_KAFKA_PASSWORD" in said.pop()
