"""Worker processes that a test starts, and always ends by their pid."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from topology.settings import Settings, environment


class Processes:
    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, settings: Settings, *arguments: str, log: Path | None = None) -> subprocess.Popen[bytes]:
        with (log or Path(os.devnull)).open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, *arguments], env=environment(settings), stderr=out if log else None
            )
        self._running.append(process)
        return process

    def stop_all(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(10)


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.05)
