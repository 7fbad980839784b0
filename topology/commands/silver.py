"""Sample videos and let an LLM label them, for `vibestream distil`."""

import argparse
from pathlib import Path

from schemas.errors import ConfigurationError
from topology.commands.parsing import Commands, natural
from topology.settings import Settings

_EPILOG = """\
A corpus is Parquet, CSV or JSONL (.gz too), one row per video: video_id, and text or the fields of an upload (title,
description, hashtags, transcript); language may be there.
"""


def add(commands: Commands) -> None:
    """Register the command."""
    silver = commands.add_parser("silver", help="sample videos of a corpus and let an LLM label them, to distil from")
    actions = silver.add_subparsers(required=True, metavar="ACTION")
    sample = actions.add_parser(
        "sample",
        help="half at random, a quarter near the bands, a quarter spread over clusters; with inclusion probabilities",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sample.add_argument("corpus", type=Path, nargs="+", metavar="FILE")
    sample.add_argument("--size", type=natural, required=True, metavar="N", help="videos to sample")
    sample.add_argument("--clusters", type=natural, default=50, metavar="K", help="(default: 50)")
    sample.add_argument("--seed", type=int, default=1)
    sample.add_argument("--out", type=Path, required=True, metavar="FILE", help="Parquet or CSV, by its name")
    sample.set_defaults(command=_sample)
    label = actions.add_parser(
        "label",
        help="ask about every attribute of every video; what is known already is never asked again",
        description="Writes DIR/labels.parquet, which `vibestream distil` reads, and DIR/failures.csv. Interrupted, it"
        " goes on where it was when it is run again. Exits 1 if something is left to ask.",
    )
    label.add_argument("sample", type=Path, metavar="FILE", help="what `sample` wrote")
    source = label.add_mutually_exclusive_group()
    source.add_argument("--llm", choices=["gemini", "local"], help="default: what VIBESTREAM_LLM says")
    source.add_argument(
        "--answers", type=Path, metavar="FILE", help="answers that are there: CSV video, attribute, label"
    )
    label.add_argument(
        "--bulk", choices=["batch", "flex"], help="ask Gemini at half the price: within a day, or within minutes"
    )
    label.add_argument("--estimate", action="store_true", help="say what it will cost, and ask nothing")
    label.add_argument("--out", type=Path, required=True, metavar="DIR")
    label.set_defaults(command=_label)


def _sample(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio
    from importlib.util import find_spec

    if find_spec("scipy") is None:
        raise ConfigurationError("scipy is not installed; sampling needs vibestream[train]")
    from topology.silver import sample

    print(asyncio.run(sample(settings, options.corpus, options.size, options.clusters, options.seed, options.out)))
    return 0


def _label(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    from topology.settings import with_changes
    from topology.silver import label

    if options.llm:
        settings = with_changes(settings, llm=options.llm)
    if options.bulk and (options.answers or settings.llm != "gemini"):
        raise ConfigurationError(f"--bulk {options.bulk} asks Gemini: give --llm gemini with it, and no --answers")
    done = asyncio.run(
        label(
            settings, options.sample, options.out, options.answers, bulk=options.bulk, only_estimate=options.estimate
        )
    )  # fmt: skip
    return 0 if done else 1
