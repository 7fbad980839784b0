"""A whole small platform for the page: broker, a worker per role, uploads, watches, poison, students, an evaluation."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from models.bundle import default_bundle
from schemas.wire import encode
from streams.record import Message
from tests.fakes.bundles import registry
from tests.fakes.gemini_server import gemini_in_thread
from tests.processes import Processes, wait_until
from topology.broker import embedded_broker, free_port
from topology.demo.flow import Flow
from topology.demo.scenario import synthetic_scenario
from topology.fleet import Fleet
from topology.producer import ConfirmedProducer
from topology.settings import ROLES, Settings, environment
from topology.topics import VIDEO_UPLOADS, WATCH_EVENTS, ensure_topics

SCREENS = Path(os.environ.get("SCREENS", "build/screens"))
_WATCHES = 800


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a platform on which the demo's uploads and some watches have gone all the way."""
    folder = tmp_path_factory.mktemp("platform")
    students = registry(folder / "students", 2)
    students.promote(1)
    with embedded_broker() as broker, gemini_in_thread() as gemini:
        settings = Settings(
            broker=broker,
            store_uri=str(folder / "lancedb"),
            students=str(students.root),
            reports=str(folder / "reports"),
            llm="gemini",
            gemini_api_key="key",
            gemini_base_url=gemini.url,
            commit_interval_s=0.3,
        )
        ensure_topics(settings)
        _evaluate(folder, settings)
        fleet = Fleet(settings, folder)
        try:
            fleet.start(ROLES)
            _play(settings, fleet)
            yield settings
        finally:
            fleet.stop()


def _play(settings: Settings, fleet: Fleet) -> None:
    scenario = synthetic_scenario()
    uploads, watches = scenario.uploads, scenario.watches[:_WATCHES]
    flow, producer = Flow(settings), ConfirmedProducer(settings)
    poison = [Message(settings.topic(VIDEO_UPLOADS), b"bad", b'{"schema_version": 1, "video_id": "bad"}')] * 3
    attack = '<script>document.title = "taken over"</script><b>bold</b>'
    hostile = encode(uploads[0]).replace(encode(uploads[0].title), encode(attack))
    producer.produce_now(
        [
            *poison,
            *(Message(settings.topic(VIDEO_UPLOADS), u.video_id.encode(), encode(u)) for u in uploads[1:]),
            Message(settings.topic(VIDEO_UPLOADS), uploads[0].video_id.encode(), hostile),
        ]
    )
    flow.wait(len(uploads) + len(poison), 0, lambda _: None, fleet.check)
    producer.produce_now([Message(settings.topic(WATCH_EVENTS), w.user_id.encode(), encode(w)) for w in watches])
    flow.wait(len(uploads) + len(poison), len(watches), lambda _: None, fleet.check)
    flow.close()
    producer.close()


def _evaluate(folder: Path, settings: Settings) -> None:
    """A golden set of two attributes and the evaluation of the student on it."""
    ratings, reports = folder / "ratings.csv", Path(settings.reports)
    reports.mkdir()
    texts = {"funny": "lol this is hilarious, I can't stop laughing", "grateful": "Thank you so much for your help"}
    with ratings.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "attribute", "rater", "label", "sampling_prob", "text"])
        for i in range(60):
            text = [*texts.values(), "The bus stops here"][i % 3] + f" number {i}"
            for attribute, words in texts.items():
                for rater in "abc":
                    writer.writerow([f"v{i}", attribute, rater, int(words in text), 1, text])
    for command in (
        ("golden", "import", ratings, "--out", folder / "golden"),
        ("evaluate", "--bundle", default_bundle(), "--golden", folder / "golden",
         "--json", reports / "nano-1.json", "--html", reports / "nano-1.html"),
    ):  # fmt: skip
        # Not in this process: the browser's driver has an event loop in it.
        ended = subprocess.run(
            [sys.executable, "-m", "topology.cli", *map(str, command)],
            env=environment(settings), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="session")
def page_url(platform: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `vibestream ui` serves that platform, in a process of its own."""
    log, port = tmp_path_factory.mktemp("page") / "log", free_port()
    processes = Processes()
    process = processes.start(platform, "-m", "topology.cli", "ui", "--port", str(port), log=log)
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return f":{port}" in log.read_text()

        wait_until(ready, 30, "the page is served")
        yield f"http://127.0.0.1:{port}"
    finally:
        processes.stop_all()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=[
                "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync",
            ],
        )  # fmt: skip
        yield started
        started.close()
