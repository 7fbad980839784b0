"""List the settings."""

import argparse

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    listed = commands.add_parser("settings", help="list all settings with their values")
    listed.add_argument("action", choices=["list", "document"], nargs="?", default="list", help="or print their page")
    listed.set_defaults(command=_settings)


def _settings(options: argparse.Namespace, settings: Settings) -> int:
    from topology.settings_page import document

    text = document() if options.action == "document" else "\n".join([*settings.lines(), ""])
    print(text, end="")
    return 0
