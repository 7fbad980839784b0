"""Annotate one title or one video here and now, to see what student and LLM say."""

import argparse
import sys
from pathlib import Path

from schemas.errors import ConfigurationError
from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    annotate = commands.add_parser("annotate", help="show what student and LLM say about one title, or one video file")
    annotate.add_argument("what", metavar="TITLE|FILE", help="a title, or the path of a video")
    annotate.add_argument("--title", default="", help="of the video in FILE")
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
    file = Path(options.what) if _is_file(options.what) else None
    if options.title and file is None:
        raise ConfigurationError(f"{options.what!r} is no file; --title goes with the path of a video")
    title = options.what if file is None else options.title
    result = asyncio.run(annotate_title(settings, title, everything=not options.uncertain, file=file))
    Console().print(table(result))
    if result.failure:
        print(f"vibestream: {result.failure}", file=sys.stderr)
    return 1 if result.failure else 0


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # longer than a path may be
        return False
