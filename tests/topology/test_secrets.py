"""Secrets that are easy to recognise, a worker that runs into failures with them, and a look at all that it shows."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError

import pytest

from schemas.annotation import Annotation, AttributeScore, ReviewRequest
from schemas.events import VideoUpload
from schemas.wire import encode
from streams.record import Message
from tests.processes import Processes, wait_until
from topology.broker import free_port
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.settings import Settings, environment, with_changes
from topology.topics import DEAD_LETTERS, REVIEW_REQUESTS

KEY, PASSWORD, TOKEN = "AIza-93f1-secret-key", "p4ss-93f1-secret-word", "t0ken-93f1-secret"
SECRETS = (KEY, PASSWORD, TOKEN)


class _Quoting(BaseHTTPRequestHandler):
    """Refuses like a Google API that has suspended a key, which quotes it."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["x-goog-api-key"]
        error = {"code": 403, "status": "PERMISSION_DENIED", "message": f"Consumer 'api_key:{key}' has been suspended."}
        body = json.dumps({"error": error}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def quoting() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Quoting)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def told(settings: Settings, quoting: str) -> Settings:
    return with_changes(
        settings, llm="gemini", gemini_api_key=KEY, gemini_base_url=quoting, kafka_username="ann",
        kafka_password=PASSWORD, http_token=TOKEN, metrics_port=free_port(),
    )  # fmt: skip


def get(port: int, path: str, token: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_worker_in_trouble_shows_no_secret(told: Settings, processes: Processes, tmp_path: Path) -> None:
    upload = VideoUpload(schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=1, title="Rain")
    annotation = Annotation(
        schema_version=1, video_id="v", status="provisional", received_at_ms=5, annotated_at_ms=5, uploaded_at_ms=1,
        attributes={"eerie": AttributeScore(p=0.5, band="uncertain", label=None, source="student")},
    )  # fmt: skip
    request = ReviewRequest(schema_version=1, upload=upload, annotation=annotation, attributes=("eerie",))
    producer = ConfirmedProducer(told)
    producer.produce_now([Message(told.topic(REVIEW_REQUESTS), b"v", encode(request))])
    producer.close()
    log = tmp_path / "review.log"
    worker = processes.start(told, "-m", "topology.cli", "worker", "review", log=log)
    wait_until(lambda: "(secret)" in log.read_text() or worker.poll() is not None, 60, "a refusal that quotes the key")
    assert worker.poll() is None, log.read_text()
    assert get(told.metrics_port, "/metrics")[0] == 401
    status, metrics = get(told.metrics_port, "/metrics", TOKEN)
    assert (status, "vibestream_run_retries_total" in metrics) == (200, True)
    command_line = Path(f"/proc/{worker.pid}/cmdline").read_text() if sys.platform == "linux" else ""
    worker.kill()
    worker.wait(10)
    letters = "".join(str(record) for record in read_topic(told, DEAD_LETTERS))
    shown = log.read_text() + metrics + command_line + letters
    assert [secret for secret in SECRETS if secret in shown] == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VIBESTREAM_PARTITIONS", "many"),
        ("VIBESTREAM_HTTP_TOKEN", f"{TOKEN} with a blank"),
        ("VIBESTREAM_KAFKA_SECURITY", "sasl"),
    ],
)
def test_a_setting_that_is_refused_shows_no_secret(told: Settings, variable: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "topology.cli", "settings"],
        env=environment(told) | {variable: value}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert variable in done.stderr
    assert [secret for secret in SECRETS if secret in done.stdout + done.stderr] == []


def test_the_list_of_settings_says_only_that_a_secret_is_set(told: Settings) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "topology.cli", "settings"],
        env=environment(told), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    for variable in ("GEMINI_API_KEY", "VIBESTREAM_KAFKA_PASSWORD", "VIBESTREAM_HTTP_TOKEN"):
        assert f"{variable}=(set)" in done.stdout
    shown = done.stdout + done.stderr + repr(told) + str(told)
    assert [secret for secret in SECRETS if secret in shown] == []
