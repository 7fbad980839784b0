"""Serve the page."""

import argparse

from topology.commands.parsing import Commands, port
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    ui = commands.add_parser("ui", help="serve a page: what flows, one upload, one session, dead letters, students")
    ui.add_argument("--port", type=port, default=8300, help="0 picks a free one and logs it (default 8300)")
    ui.set_defaults(command=_ui)


def _ui(options: argparse.Namespace, settings: Settings) -> int:
    from topology.ui.server import run_page

    run_page(settings, options.port)
    return 0
