"""Print the document of the session role's HTTP endpoint."""

import argparse

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    http = commands.add_parser("http", help="print the OpenAPI document of the session workers' HTTP endpoint")
    http.add_argument("action", choices=["document"])
    http.set_defaults(command=_http)


def _http(_: argparse.Namespace, __: Settings) -> int:
    from topology.openapi import document

    print(document())
    return 0
