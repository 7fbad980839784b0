"""Let Gemini annotate a file of uploads at half the price."""

import argparse
from pathlib import Path

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    bulk = commands.add_parser(
        "annotate-file",
        help="let Gemini annotate a file of uploads, at half the price",
        description="Asks about every attribute of every upload. Interrupted, it finds its batch jobs again when it is"
        " run again, and what is known is never asked twice. Exits 1 if something is left to ask.",
    )
    bulk.add_argument("file", type=Path, help="JSONL or Parquet of uploads, .gz too")
    bulk.add_argument("--bulk", choices=["batch", "flex"], default="batch", help="within a day (default), or minutes")
    bulk.add_argument("--out", type=Path, required=True, metavar="FILE", help="a JSON line per upload")
    bulk.set_defaults(command=_annotate_file)


def _annotate_file(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    from topology.bulk import annotate_file

    counts = asyncio.run(annotate_file(settings, options.file, options.out, options.bulk))
    print(f"{options.out}: " + ", ".join(f"{number} {kind}" for kind, number in counts.items()))
    return 1 if counts["postponed"] else 0
