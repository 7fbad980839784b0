"""Create the topics, or print their document."""

import argparse

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    topics = commands.add_parser("topics", help="create the topics, or print their AsyncAPI document")
    topics.add_argument("action", choices=["ensure", "document"])
    topics.set_defaults(command=_topics)


def _topics(options: argparse.Namespace, settings: Settings) -> int:
    if options.action == "document":
        from topology.asyncapi import document

        print(document())
        return 0
    from topology.topics import ensure_topics

    created = ensure_topics(settings)
    print("\n".join(f"created {name}" for name in created) or "all topics are there")
    return 0
