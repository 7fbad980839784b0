"""A real Redis for the tests, as Debian's package redis-server has it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MISSING = None if shutil.which("redis-server") else "there is no redis-server here: apt-get install redis-server"
PASSWORD = "r3dis-93f1-secret"


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[str]:
    """Start one on a free port with a password; yield its URL. It keeps what it is told in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--dir", str(folder),
         "--appendonly", "yes", "--save", "", *options],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert process.poll() is None and time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.02)
        yield f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
