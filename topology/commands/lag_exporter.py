"""Export the lag of every role, from outside the workers."""

import argparse

from topology.commands.parsing import Commands, positive
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    exporter = commands.add_parser("lag-exporter", help="serve every role's lag as metrics; one per cluster is enough")
    exporter.add_argument(
        "--every", type=positive, default=5.0, metavar="SECONDS", help="between two looks (default 5)"
    )
    exporter.set_defaults(command=_lag_exporter)


def _lag_exporter(options: argparse.Namespace, settings: Settings) -> int:
    from topology.lag_exporter import run_lag_exporter

    run_lag_exporter(settings, options.every)
    return 0
