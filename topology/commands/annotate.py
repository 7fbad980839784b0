"""Annotate one title here and now, to see what student and LLM say."""

import argparse
import sys

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    annotate = commands.add_parser("annotate", help="show what student and LLM say about one title")
    annotate.add_argument("title")
    annotate.add_argument("--llm", choices=["gemini", "local"], help="default: what VIBESTREAM_LLM says")
    annotate.add_argument(
        "--uncertain", action="store_true", help="ask only what the student leaves open, as review does"
    )
    annotate.set_defaults(command=_annotate)


def _annotate(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio
    import logging

    from rich.console import Console

    from topology.one_title import annotate_title, table
    from topology.settings import with_changes

    logging.getLogger("models").setLevel(logging.ERROR)  # what went wrong is said once, at the end
    if options.llm:
        settings = with_changes(settings, llm=options.llm)
    result = asyncio.run(annotate_title(settings, options.title, everything=not options.uncertain))
    Console().print(table(result))
    if result.failure:
        print(f"vibestream: {result.failure}", file=sys.stderr)
    return 1 if result.failure else 0
