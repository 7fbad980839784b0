"""Who may see the page of `vibestream ui`, asked over HTTP."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import ClientResponse, ClientSession, CookieJar

from streams.record import Message
from tests.processes import Processes, wait_until
from topology.broker import free_port
from topology.producer import ConfirmedProducer
from topology.settings import Settings, environment, with_changes
from topology.topics import VIDEO_UPLOADS

Serve = Callable[..., str]


@pytest.fixture
def serve(settings: Settings, processes: Processes, tmp_path: Path) -> Serve:
    """Starts the page with changed settings; returns its address."""

    def start(**changes: object) -> str:
        port, log = free_port(), tmp_path / "page.log"
        process = processes.start(
            with_changes(settings, **changes), "-m", "topology.cli", "ui", "--port", str(port), log=log
        )

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return f":{port}" in log.read_text()

        wait_until(ready, 60, "the page is served")
        return f"http://127.0.0.1:{port}"

    return start


async def text(response: ClientResponse) -> tuple[int, str]:
    async with response:
        return response.status, await response.text()


async def test_without_a_token_only_loopback_names_and_own_forms_are_answered(serve: Serve):
    url = serve()
    async with ClientSession() as client:
        status, page = await text(await client.get(url))
        assert (status, "Flow" in page) == (200, True)
        assert (await text(await client.get(url, headers={"Host": "evil.example"})))[0] == 421
        for action in ("/letters/drop", "/letters/replay", "/students/promote", "/students/rollback"):
            status, said = await text(await client.post(url + action, data={"form_key": "guessed", "origin": "x/0/0"}))
            assert (status, "form" in said) == (403, True), action
        policy = (await client.get(url)).headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy


async def test_with_a_token_a_visitor_signs_in_first(serve: Serve):
    url = serve(http_token="open-sesame")
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as client:
        response = await client.get(url, allow_redirects=False)
        assert (response.status, response.headers["Location"]) == (303, "/login")
        assert (await text(await client.get(url + "/live")))[0] == 401
        assert (await text(await client.post(url + "/letters/drop", data={})))[0] == 401
        status, page = await text(await client.post(url + "/login", data={"token": "wrong"}))
        assert (status, "not the token" in page) == (403, True)
        status, page = await text(await client.post(url + "/login", data={"token": "open-sesame"}))
        assert (status, "open-sesame" in page) == (200, False)
        assert (await text(await client.get(url + "/videos")))[0] == 200


async def test_a_stream_of_the_flow_arrives_piece_by_piece(serve: Serve, settings: Settings):
    url = serve()
    async with ClientSession() as client, client.get(url + "/live") as stream:
        producer = ConfirmedProducer(settings)
        producer.produce_now([Message(settings.topic(VIDEO_UPLOADS), b"v", b"{}")] * 40)
        producer.close()
        async for line in stream.content:
            if found := re.search(rb"<dt>uploads</dt><dd>([\d.]+)<", line):
                if float(found[1]) > 0:
                    break
        assert found is not None


@pytest.mark.parametrize(
    ("changes", "arguments", "said"),
    [
        ({"http_host": "0.0.0.0"}, (), "VIBESTREAM_HTTP_TOKEN"),
        ({"broker": "kafka://127.0.0.1:1"}, (), "no Kafka broker answers at kafka://127.0.0.1:1"),
        ({"topic_prefix": "nowhere."}, (), "vibestream topics ensure"),
        ({}, ("--port", "70000"), "70000 is no port"),
    ],
)
def test_what_is_wrong_is_one_line(settings: Settings, changes: dict[str, object], arguments: tuple[str], said: str):
    ended = subprocess.run(
        [sys.executable, "-m", "topology.cli", "ui", *arguments],
        env=environment(with_changes(settings, **changes)), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert said in ended.stderr.splitlines()[-1]
