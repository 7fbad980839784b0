"""Say why a session's list is as it is."""

import argparse
import sys

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    explain = commands.add_parser("explain", help="say why each video is in a session's list, and what was removed")
    explain.add_argument("session", metavar="SESSION", help="its latest list in session-candidates")
    explain.add_argument("--event", metavar="ID", help="not the latest: the list that this watch event caused")
    explain.add_argument("--json", action="store_true", help="the whole list in JSON")
    explain.set_defaults(command=_explain)


def _explain(options: argparse.Namespace, settings: Settings) -> int:
    from schemas.wire import encode
    from topology.explain import describe, find_list

    made = find_list(settings, options.session, options.event)
    if made is None:
        of_event = f" of event {options.event}" if options.event else ""
        print(f"session {options.session} has no list{of_event} in session-candidates", file=sys.stderr)
        return 1
    print(encode(made).decode() if options.json else describe(made))
    return 0
