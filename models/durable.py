"""Writing what a power cut must not take back: the one module of models that talks to the operating system."""

import os
from io import BufferedRandom
from pathlib import Path


def append(file: BufferedRandom, content: bytes) -> None:
    """Append to a file; it is on disk when this returns."""
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Give a file other content: readers see the old or the new one whole, and the new one lasts.

    Raises:
        OSError: it can't be written; then it is as before.

    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else the old name may be back after a power cut
    finally:
        os.close(folder)
