"""The demo as a person runs it, and ends it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

import pytest

from monitoring.scrape import scrape, total
from tests.fakes.gemini_server import GeminiServer
from tests.processes import wait_until
from topology.settings import ROLES, Settings, environment

# What runs in the background of a shell ignores Ctrl-C, and so would the demo.
_INTERRUPTIBLE = ("env", "--default-signal=INT")


@contextmanager
def demo(gemini: GeminiServer, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A demo whose process group, broker and workers with it, is nobody else's and does not outlive the block."""
    settings = Settings(llm="gemini", gemini_api_key="key", gemini_base_url=gemini.url)
    process = subprocess.Popen(
        [*_INTERRUPTIBLE, sys.executable, "-m", "topology.cli", "demo", *options],
        env=environment(settings), stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    patience = Timer(300, kill)
    patience.start()
    with process:
        try:
            yield process
        finally:
            patience.cancel()
            kill()


def left_behind(process: subprocess.Popen[str]) -> bool:
    """Whether anything of the group still runs."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_while_it_plays_leaves_no_process_behind(
    gemini: GeminiServer, number: signal.Signals
) -> None:
    with demo(gemini) as playing:
        children = Path(f"/proc/{playing.pid}/task/{playing.pid}/children")
        wait_until(lambda: len(children.read_text().split()) == 1 + len(ROLES), 60, "broker and workers are started")
        playing.send_signal(number)
        playing.communicate()
        assert playing.returncode == 130
        assert not left_behind(playing)


def test_a_demo_that_stays_names_a_target_of_every_role_and_ends_in_order_when_it_is_told_to_twice(
    gemini: GeminiServer,
) -> None:
    with demo(gemini, "--stay") as staying:
        assert staying.stdout is not None
        config = next((line for line in staying.stdout if line.startswith("scrape_configs:")), "")
        ports = [int(port) for port in re.findall(r'"127\.0\.0\.1:(\d+)"', config)]
        pages = [scrape(port) for port in ports]
        os.killpg(staying.pid, signal.SIGTERM)
        staying.send_signal(signal.SIGTERM)  # as make does, after the whole group got it
        staying.communicate()
        assert staying.returncode == 0
        assert not left_behind(staying)
    assert len(pages) == 4
    assert all(total(page, "vibestream_consumed_records_total") > 0 for page in pages)
