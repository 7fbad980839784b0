"""The command line."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from schemas.errors import VibestreamError
from topology.settings import ROLES, Settings, read_settings

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
    command: Callable[[argparse.Namespace, Settings], int] = options.command
    try:
        code = command(options, read_settings(os.environ))
    except VibestreamError as error:
        print(f"vibestream: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vibestream",
        description="Annotates live video uploads with their vibe and turns watches into candidate lists.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    worker = commands.add_parser("worker", help="run one role; start more for more throughput")
    worker.add_argument("role", choices=ROLES)
    worker.set_defaults(command=_worker)

    topics = commands.add_parser("topics", help="create the topics, or print their AsyncAPI document")
    topics.add_argument("action", choices=["ensure", "document"])
    topics.set_defaults(command=_topics)

    replay = commands.add_parser("replay", help="send a file of events to a topic")
    replay.add_argument("file", type=Path, help="JSONL or Parquet, .gz too")
    replay.add_argument("topic", choices=["video-uploads", "watch-events"])
    replay.add_argument("--rate", type=_positive, help="events a second (default: as fast as the broker takes them)")
    replay.set_defaults(command=_replay)

    demo = commands.add_parser("demo", help="run everything on this machine with a catalogue that ships")
    demo.add_argument("--json", type=Path, metavar="FILE", help="write the summary there")
    demo.add_argument("--real", type=Path, metavar="DIR", help="use the KuaiRand log and GoEmotions texts in DIR")
    demo.set_defaults(command=_demo)

    audit = commands.add_parser("audit", help="prove that every upload is accounted for; prints JSON, exits 1 if not")
    audit.set_defaults(command=_audit)

    settings = commands.add_parser("settings", help="list all settings with their values")
    settings.set_defaults(command=_settings)
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _worker(options: argparse.Namespace, settings: Settings) -> int:
    from topology.roles import build
    from topology.worker import run_worker

    run_worker(settings, lambda: build(settings, options.role))
    return 0


def _topics(options: argparse.Namespace, settings: Settings) -> int:
    if options.action == "document":
        from topology.asyncapi import document

        print(document())
        return 0
    from topology.topics import ensure_topics

    created = ensure_topics(settings)
    print("\n".join(f"created {name}" for name in created) or "all topics are there")
    return 0


def _replay(options: argparse.Namespace, settings: Settings) -> int:
    from topology.console import progress
    from topology.kafka import make_consumer, partitions_of
    from topology.producer import ConfirmedProducer
    from topology.replay import message, read_events, send

    partitions_of(make_consumer(settings, "replay"), settings, settings.topic(options.topic))
    producer = ConfirmedProducer(settings)
    with progress() as bars:
        task = bars.add_task(f"{options.file.name} → {options.topic}", total=None)
        messages = (message(settings, options.topic, event) for event in read_events(options.file))
        sent = send(producer, messages, options.rate, lambda count: bars.advance(task, count))
    producer.close()
    print(f"{sent} events sent to {settings.topic(options.topic)}")
    return 0


def _demo(options: argparse.Namespace, settings: Settings) -> int:
    from topology.demo.run import run_demo
    from topology.demo.scenario import real_scenario, synthetic_scenario

    scenario = real_scenario(options.real) if options.real else synthetic_scenario()
    return run_demo(scenario, settings, options.json)


def _audit(options: argparse.Namespace, settings: Settings) -> int:
    import msgspec

    from schemas.attributes import load_catalogue
    from topology.audit import audit
    from topology.roles import open_table

    result = audit(settings, open_table(settings, load_catalogue(settings.catalogue_path)))
    print(json.dumps({**msgspec.to_builtins(result), "ok": result.ok}, indent=2))
    return 0 if result.ok else 1


def _settings(options: argparse.Namespace, settings: Settings) -> int:
    for line in settings.lines():
        print(line)
    return 0


if __name__ == "__main__":
    main()
