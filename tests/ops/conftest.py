"""A small platform under load, videos in it, a lag exporter beside it, and a Prometheus that scrapes them all."""

import http.client
import itertools
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from monitoring.scrape import scrape, total
from schemas.wire import encode
from streams.clock import now_ms
from streams.record import Message
from tests.fakes.bundles import registry
from tests.fakes.fused import colour_encoder, fused_bundle
from tests.fakes.gemini_server import gemini_in_thread
from tests.fakes.media import caption, video
from tests.processes import Processes, wait_until
from topology.broker import embedded_broker, free_port
from topology.demo.content import load_uploads
from topology.demo.viewers import watch_events
from topology.producer import ConfirmedProducer
from topology.settings import ALL_ROLES, Settings, with_changes
from topology.topics import VIDEO_UPLOADS, WATCH_EVENTS, ensure_topics

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
_START_S = 300
_EVERY_S = 0.5
_UPLOADS, _WATCHES = 10, 20


@dataclass(frozen=True)
class Prometheus:
    """The HTTP API of a Prometheus."""

    url: str

    def get(self, path: str, **parameters: Any) -> Any:
        """What the API has at `path`; raises on an error in the query."""
        try:
            with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters, doseq=True)}", timeout=30) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None


class Sender(Thread):
    """Uploads whose texts nobody has seen, watches, poison, and questions by HTTP, until it is told to stop."""

    def __init__(self, settings: Settings, session_port: int, film: Path) -> None:
        super().__init__(name="sender", daemon=True)
        self._settings = settings
        self._film = film.as_uri()
        self._port = session_port
        self._uploads = load_uploads(now_ms())
        self._watches = itertools.cycle(watch_events(self._uploads, 5_000, 7, now_ms()))
        self._stop_it = Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        producer = ConfirmedProducer(self._settings)
        try:
            for number in itertools.count():
                producer.produce_now(self._messages(number))
                self._ask()
                if self._stop_it.wait(_EVERY_S):
                    return
        except BaseException as error:
            self.failure = error
        finally:
            producer.close()

    def _messages(self, number: int) -> list[Message]:
        topic, rounds = self._settings.topic(VIDEO_UPLOADS), range(number * _UPLOADS, (number + 1) * _UPLOADS)
        uploads = [self._uploads[n % len(self._uploads)].upload for n in rounds]
        fresh = [
            replace(
                upload,
                title=f"{upload.title} {n}",
                uploaded_at_ms=now_ms(),
                media_uri=self._film if n % _UPLOADS == 0 else None,
            )
            for n, upload in zip(rounds, uploads, strict=True)
        ]
        watches = [
            replace(watch, event_id=f"{watch.event_id}-{number}", session_id=f"{watch.session_id}-{number // 20}")
            for watch in itertools.islice(self._watches, _WATCHES)
        ]
        watched = self._settings.topic(WATCH_EVENTS)
        return [
            *(Message(topic, upload.video_id.encode(), encode(upload)) for upload in fresh),
            *(Message(watched, watch.user_id.encode(), encode(watch)) for watch in watches),
            Message(topic, b"bad", b"no json"),
        ]

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request("POST", "/candidates", msgspec.json.encode({"attributes": ["funny"]}))
        connection.getresponse().read()
        connection.close()

    def stop(self) -> None:
        self._stop_it.set()
        self.join()
        if self.failure is not None:
            raise self.failure


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has seen the platform under load, and still does."""
    folder = tmp_path_factory.mktemp("ops")
    students = registry(folder / "students", 2)
    students.promote(1)
    students.set_shadow(2)
    processes = Processes()
    with ExitStack() as stack:
        gemini = stack.enter_context(gemini_in_thread())
        gemini.remembers = False
        settings = Settings(
            broker=stack.enter_context(embedded_broker()),
            store_uri=str(folder / "lancedb"),
            students=str(students.root),
            shadow_share=1.0,
            llm="gemini",
            gemini_api_key="key",
            gemini_base_url=gemini.url,
            commit_interval_s=0.3,
            media_allow=folder.as_uri(),
            media_decode_s=60.0,
            media_extractors="ocr,tests.fakes.extractors:Speech",
        )
        encoder = colour_encoder(folder / "encoder")
        film = video(folder / "film.mp4", [(caption("wait for it"), 1)], size=(640, 360), tone_hz=300)
        # Dashboards don't mind that annotate has another student, whose vectors lie elsewhere.
        seeing = {"students": "", "bundle": str(fused_bundle(folder, encoder)), "frame_encoder": str(encoder)}
        ensure_topics(settings)
        stack.callback(processes.stop_all)
        ports = {name: free_port() for name in (*ALL_ROLES, "lag-exporter")}
        for name, port in ports.items():
            arguments = ("worker", name) if name in ALL_ROLES else (name, "--every", "1")
            own = with_changes(settings, metrics_port=port, **(seeing if name == "media" else {}))
            processes.start(own, "-m", "topology.cli", *arguments, log=folder / f"{name}.log")
        for name, port in ports.items():
            wait_until(lambda port=port: _ready(port), _START_S, f"{name} is ready: {folder}")
        sender = Sender(settings, ports["session"], film)
        sender.start()
        stack.callback(sender.stop)
        yield stack.enter_context(_scraping(folder, list(ports.values())))


def _ready(port: int) -> bool:
    try:
        return total(scrape(port), "vibestream_ready") == 1
    except OSError:
        return False


@contextmanager
def _scraping(folder: Path, ports: list[int]) -> Iterator[Prometheus]:
    """Run a Prometheus with our configuration, but for the targets and the pace."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(MONITORING / "alerts" / "*.yml")]
    del config["alerting"]
    [job] = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    path, port = folder / "prometheus.yml", free_port()
    path.write_text(yaml.safe_dump(config))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder / 'tsdb'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        made = Prometheus(f"http://127.0.0.1:{port}")
        wait_until(lambda: _up(made, len(ports)), 60, f"Prometheus scrapes everything: {folder}")
        yield made
    finally:
        process.kill()
        process.wait()


def _up(prometheus: Prometheus, targets: int) -> bool:
    try:
        with urlopen(f"{prometheus.url}/-/ready", timeout=5):
            found = prometheus.get("targets", state="active")["activeTargets"]
    except OSError:  # an HTTPError, too
        return False
    return [target["health"] for target in found] == ["up"] * targets
