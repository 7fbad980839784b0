"""Fit the table of a labeler from watches."""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

from schemas.errors import ConfigurationError, InvalidRecord
from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    satisfaction = commands.add_parser("satisfaction", help="fit what says how satisfied a watch was")
    actions = satisfaction.add_subparsers(required=True, metavar="ACTION")
    fit = actions.add_parser(
        "fit",
        help="quantiles of the time played, per duration group; prints JSON",
        description="Sketches how long videos of each duration are played, and writes the table that"
        " VIBESTREAM_LABELER reads. A new table is a new labeler: user states name the one they were made with.",
    )
    fit.add_argument(
        "sources", metavar="SOURCE", nargs="+", help="JSONL or Parquet of watches (.gz too), or watch-events"
    )
    fit.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table, JSON")
    fit.set_defaults(command=_fit)


def _fit(options: argparse.Namespace, settings: Settings) -> int:
    if find_spec("datasketches") is None:
        raise ConfigurationError("datasketches is not installed; fitting needs vibestream[train]")
    import msgspec

    from models.duration_quantiles import DurationPercentile
    from models.duration_quantiles_fit import DurationQuantilesFit
    from schemas.events import WatchEvent
    from schemas.wire import Decoder
    from topology.labelers import watches

    decoder, fit, invalid = Decoder(WatchEvent), DurationQuantilesFit(), 0
    for value in watches(settings, options.sources):
        try:
            fit.add(decoder.decode(value))
        except InvalidRecord:
            invalid += 1
    table = fit.table()
    try:
        options.out.write_bytes(msgspec.json.encode(table) + b"\n")
    except OSError as error:
        raise ConfigurationError(f"{options.out}: {error.strerror}; choose a file that can be written") from error
    print(
        json.dumps(
            {
                "labeler": DurationPercentile(table).labeler,
                "watches": fit.watches,
                "groups": len(table.groups),
                "invalid": invalid,
                "out": str(options.out),
            }
        )
    )
    return 0
