"""A small disk of its own, which can be made read-only and filled."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BYTES = 24 * 2**20


class Disk:
    """A tmpfs: root, whom modes don't bind, can't write it either when it is read-only or full."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / "filling"

    def make_read_only(self) -> bool:
        """Whether it is so now; not while a file is open for writing."""
        return (
            subprocess.run(["mount", "-o", "remount,ro", self.path], capture_output=True, check=False).returncode == 0
        )

    def make_writable(self) -> None:
        subprocess.run(["mount", "-o", "remount,rw", self.path], check=True)

    def fill(self) -> None:
        """Leave not one byte free."""
        file = os.open(self._filling, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for size in (2**16, 2**12, 1):
            try:
                while os.write(file, bytes(size)):
                    pass
            except OSError:
                continue
        os.close(file)

    def free(self) -> None:
        self._filling.unlink()


@contextmanager
def disk(path: Path) -> Iterator[Disk | None]:
    """Mount one at `path`; None where that is not permitted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={_BYTES}", "tmpfs", path]
    try:
        subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
