"""What the commands share: where they register, and how they read numbers."""

import argparse
from typing import Any, Protocol


class Commands(Protocol):
    """Where a command registers: what argparse's `add_subparsers` returns.

    A command sets `command` among its parser's defaults: a function of the options and the settings that returns the
    exit code, 1 when it found something wrong. It imports what it needs itself, so that every other command starts
    without it.
    """

    def add_parser(self, name: str, /, **kwargs: Any) -> argparse.ArgumentParser:
        """Return the parser of a new command."""
        ...


def natural(text: str) -> int:
    """Return an integer above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def port(text: str) -> int:
    """Return a port number; 0 lets the system choose."""
    value = int(text)
    if not 0 <= value <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")
    return value


def positive(text: str) -> float:
    """Return a number above 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
