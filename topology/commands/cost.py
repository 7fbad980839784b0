"""Estimate what the LLM will cost before it is asked."""

import argparse

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    cost = commands.add_parser("cost", help="estimate what Gemini will cost for a file or topic; asks nothing")
    cost.add_argument("source", metavar="FILE|TOPIC", help="uploads as JSONL or Parquet (.gz too), or video-uploads")
    cost.set_defaults(command=_cost)


def _cost(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio
    import json

    import msgspec

    from topology.cost import estimate, uploads_of

    result = asyncio.run(estimate(settings, uploads_of(settings, options.source)))
    print(json.dumps(msgspec.to_builtins(result), indent=2))
    return 0
