"""List the settings."""

import argparse

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    listed = commands.add_parser("settings", help="list all settings with their values")
    listed.set_defaults(command=_settings)


def _settings(options: argparse.Namespace, settings: Settings) -> int:
    for line in settings.lines():
        print(line)
    return 0
