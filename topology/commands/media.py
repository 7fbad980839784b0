"""Look at the videos of a corpus."""

import argparse
from pathlib import Path

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the commands."""
    media = commands.add_parser("media", help="look at the videos of a corpus, to distil a student that sees")
    kinds = media.add_subparsers(required=True, metavar="COMMAND")
    embed = kinds.add_parser("embed", help="write the vectors of each video's frames, for `distil --media`")
    embed.add_argument("uploads", type=Path, help="uploads with media_uri: JSONL or Parquet, .gz too")
    embed.add_argument("--out", type=Path, required=True, metavar="FILE", help="Parquet")
    embed.add_argument("--sound", action="store_true", help="and what is heard in its first 30 s")
    embed.set_defaults(command=_embed)


def _embed(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    from topology.console import progress
    from topology.embed import embed

    with progress() as bars:
        task = bars.add_task("videos", total=None)
        counts = asyncio.run(
            embed(settings, options.uploads, options.out, sound=options.sound, progress=lambda n: bars.advance(task, n))
        )
    told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    print(f"{options.out}: {told or 'no upload has a media_uri'}")
    return 0 if counts.get("used") else 1
