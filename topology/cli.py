"""The command line."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from schemas.errors import VibestreamError
from topology.commands import (
    annotate,
    audit,
    bulk,
    cost,
    demo,
    distil,
    dlq,
    evaluate,
    explain,
    frame_encoder,
    golden,
    http,
    lag_exporter,
    media,
    replay,
    satisfaction,
    settings,
    silver,
    store,
    student,
    topics,
    ui,
    worker,
)
from topology.hiding import hide_secrets, without_secrets
from topology.repeated import log_seldom
from topology.settings import Settings, read_settings

# In the order of the help text.
_COMMANDS = (
    annotate,
    bulk,
    cost,
    worker,
    lag_exporter,
    topics,
    http,
    replay,
    demo,
    ui,
    store,
    audit,
    explain,
    dlq,
    golden,
    silver,
    distil,
    student,
    frame_encoder,
    media,
    evaluate,
    satisfaction,
    settings,
)

# One BLAS thread a process: more only contend, since every stage has a thread of its own. Read when numpy is imported,
# which is why the commands import what they need themselves.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("LANCE_LOG", "error")  # a lost race of compactions is retried, not worth a warning

_EPILOG = """\
The settings are environment variables; the most important ones:
  VIBESTREAM_BROKER=kafka://host:9092   the Kafka cluster (default kafka://127.0.0.1:9092)
  VIBESTREAM_STORE_URI=DIR              the LanceDB store (default .data/lancedb)
  VIBESTREAM_LLM=local|gemini           who reviews what the student is unsure of
  GEMINI_API_KEY=...                    the key, with VIBESTREAM_LLM=gemini
`vibestream settings` lists them all.

A first run:  vibestream demo
On a cluster: vibestream topics ensure, then one or more of: vibestream worker annotate|review|store|session
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exit 1 when it found something wrong, 2 when it could not run."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for ours in ("streams", "topology", "models"):
        logging.getLogger(ours).setLevel(logging.INFO)
    log_seldom()
    command: Callable[[argparse.Namespace, Settings], int] = options.command
    try:
        code = _run(command, options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has enough; what is left in the buffer must not fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _run(command: Callable[[argparse.Namespace, Settings], int], options: argparse.Namespace) -> int:
    settings = Settings()
    try:
        settings = read_settings(os.environ)
        hide_secrets(settings)
        return command(options, settings)
    except VibestreamError as error:
        print(f"vibestream: {without_secrets(settings, str(error))}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vibestream",
        description="Annotates live video uploads with their vibe and turns watches into candidate lists.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    main()
