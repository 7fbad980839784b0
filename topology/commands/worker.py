"""Run one role."""

import argparse

from topology.commands.parsing import Commands
from topology.settings import ALL_ROLES, Settings


def add(commands: Commands) -> None:
    """Register the command."""
    worker = commands.add_parser("worker", help="run one role; start more for more throughput")
    worker.add_argument("role", choices=ALL_ROLES)
    worker.set_defaults(command=_worker)


def _worker(options: argparse.Namespace, settings: Settings) -> int:
    from topology.roles import build
    from topology.worker import run_worker

    run_worker(settings, lambda: build(settings, options.role))
    return 0
