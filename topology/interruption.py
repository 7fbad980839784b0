"""Ending a command that has started processes: by whichever signal, and never between a process and its being known."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def interrupt_by_sigterm() -> None:
    """Let SIGTERM raise KeyboardInterrupt, as SIGINT does. Main thread only, as all here."""
    signal.signal(signal.SIGTERM, _interrupt)


@contextmanager
def uninterrupted() -> Generator[None]:
    """Hold back SIGINT and SIGTERM for the length of the block: a process that starts in it is known when they come."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _interrupt(*_: object) -> NoReturn:
    # Whoever signals the group of a `make` signals twice, and the second must not interrupt the ending of the workers.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
