"""The fake Gemini in a process of its own, so that it does not share a core's time with what it measures."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class GeminiProcess:
    url: str

    def ledger(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/ledger", timeout=30) as reply:
            return json.load(reply)

    def fail(self, **shares: float) -> None:
        """Fail these shares of the requests from now on."""
        urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/faults", json.dumps(shares).encode()), timeout=30
        ).close()


@contextmanager
def gemini_process(*arguments: str) -> Iterator[GeminiProcess]:
    """Arguments as `python -m tests.fakes.gemini_server` takes them."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.gemini_server", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield GeminiProcess(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()
