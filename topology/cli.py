"""The command line."""

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from schemas.errors import ConfigurationError, ErrorKind, VibestreamError
from topology.settings import ROLES, Settings, read_settings

if TYPE_CHECKING:
    from schemas.dead_letter import DeadLetter
    from topology.dead_letters import Filter

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

    store = commands.add_parser("store", help="check, back up or restore the attribute table")
    actions = store.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser("check", help="read it all; prints JSON, exits 1 if damaged or a video is there twice")
    check.set_defaults(command=_store_check)
    backup = actions.add_parser("backup", help="copy one consistent version; workers may go on")
    backup.add_argument("to", metavar="DEST", help="a new folder, or an address in the same object store")
    backup.set_defaults(command=_store_backup)
    restore = actions.add_parser("restore", help="fill an absent or empty table; stop the store workers first")
    restore.add_argument("source", metavar="SRC", help="what `backup` wrote")
    restore.set_defaults(command=_store_restore)

    audit = commands.add_parser("audit", help="prove that every upload is accounted for; prints JSON, exits 1 if not")
    audit.set_defaults(command=_audit)

    _dlq_parser(commands.add_parser("dlq", help="list, show, replay or drop dead letters"))

    settings = commands.add_parser("settings", help="list all settings with their values")
    settings.set_defaults(command=_settings)
    return parser


def _dlq_parser(dlq: argparse.ArgumentParser) -> None:
    filters = argparse.ArgumentParser(add_help=False)
    filters.add_argument("--kind", choices=get_args(ErrorKind))
    filters.add_argument("--stage", choices=ROLES)
    filters.add_argument("--topic", help="where the record came from, with or without the prefix")
    filters.add_argument("--since", metavar="TIME", help="failed then or later: an ISO time (UTC), or how long ago: 2h")
    filters.add_argument("--until", metavar="TIME", help="failed earlier: the same")
    filters.add_argument("--limit", type=_natural, metavar="N", help="at most N, the oldest failures first")
    chosen = argparse.ArgumentParser(add_help=False, parents=[filters])
    chosen.add_argument("origins", nargs="*", metavar="ORIGIN", help="topic/partition/offset, instead of filters")
    chosen.add_argument("--yes", action="store_true", help="don't ask")
    actions = dlq.add_subparsers(required=True, metavar="ACTION")

    listed = actions.add_parser("list", parents=[filters], help="one line a letter, without those handled")
    listed.add_argument("--all", action="store_true", help="also those that were replayed or dropped")
    listed.add_argument("--json", action="store_true", help="one whole letter a line, in JSON")
    listed.set_defaults(command=_dlq_list)

    shown = actions.add_parser("show", help="everything about one letter")
    shown.add_argument("origin", metavar="ORIGIN", help="topic/partition/offset, as dlq list has it")
    shown.set_defaults(command=_dlq_show)

    replayed = actions.add_parser("replay", parents=[chosen], help="send the records to their topics again")
    replayed.add_argument(
        "--max-replays", type=_natural, default=3, metavar="N", help="skip what was replayed so often (default 3)"
    )
    replayed.set_defaults(command=_dlq_replay)

    dropped = actions.add_parser("drop", parents=[chosen], help="mark letters as handled without replaying them")
    dropped.set_defaults(command=_dlq_drop)


def _natural(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


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


def _store_check(options: argparse.Namespace, settings: Settings) -> int:
    import msgspec

    from topology.store import check

    found = check(settings)
    print(json.dumps({**msgspec.to_builtins(found), "ok": found.ok}, indent=2))
    return 0 if found.ok else 1


def _store_backup(options: argparse.Namespace, settings: Settings) -> int:
    from topology.store import backup

    print(f"{backup(settings, options.to)} rows of {settings.store_uri} copied to {options.to}")
    return 0


def _store_restore(options: argparse.Namespace, settings: Settings) -> int:
    from topology.store import restore

    print(f"{restore(settings, options.source)} rows of {options.source} restored to {settings.store_uri}")
    return 0


def _audit(options: argparse.Namespace, settings: Settings) -> int:
    import msgspec

    from schemas.attributes import load_catalogue
    from topology.audit import audit
    from topology.roles import open_table

    result = audit(settings, open_table(settings, load_catalogue(settings.catalogue_path)))
    print(json.dumps({**msgspec.to_builtins(result), "ok": result.ok}, indent=2))
    return 0 if result.ok else 1


def _dlq_list(options: argparse.Namespace, settings: Settings) -> int:
    from topology.dead_letters import json_line, line, read_letters, select

    wanted = _dlq_filter(options, settings)
    found = select(read_letters(settings).values(), wanted)
    chosen = found[: options.limit]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for letter in chosen:
        print(json_line(letter) if options.json else line(letter, width))
    count = _letters(len(found)) if len(chosen) == len(found) else f"{len(chosen)} of {_letters(len(found))}"
    print(count, file=sys.stderr if options.json else sys.stdout)
    return 0


def _dlq_show(options: argparse.Namespace, settings: Settings) -> int:
    from topology.dead_letters import describe, find, read_letters

    for letter in find(read_letters(settings), [options.origin]):
        print(describe(letter))
    return 0


def _dlq_replay(options: argparse.Namespace, settings: Settings) -> int:
    from topology.dead_letters import replay, replays
    from topology.producer import ConfirmedProducer

    chosen = _dlq_chosen(options, settings)
    due = [letter for letter in chosen if replays(letter) < options.max_replays]
    for letter in chosen:
        if replays(letter) >= options.max_replays:
            print(f"skipped {letter.origin}: replayed {replays(letter)} times, --max-replays {options.max_replays}")
    if not _dlq_confirmed(options, "replay", len(due)):
        return 1
    producer = ConfirmedProducer(settings)
    replay(settings, producer, due)
    producer.close()
    print(f"{_letters(len(due))} replayed")
    return 0


def _dlq_drop(options: argparse.Namespace, settings: Settings) -> int:
    from topology.dead_letters import drop
    from topology.producer import ConfirmedProducer

    chosen = _dlq_chosen(options, settings)
    if not _dlq_confirmed(options, "drop", len(chosen)):
        return 1
    producer = ConfirmedProducer(settings)
    drop(settings, producer, chosen)
    producer.close()
    print(f"{_letters(len(chosen))} dropped")
    return 0


def _dlq_chosen(options: argparse.Namespace, settings: Settings) -> "Sequence[DeadLetter]":
    from topology.dead_letters import find, read_letters, select

    if not options.origins:
        wanted = _dlq_filter(options, settings)
        return select(read_letters(settings).values(), wanted)[: options.limit]
    for name in ("kind", "stage", "topic", "since", "until", "limit"):
        if getattr(options, name) is not None:
            raise ConfigurationError(f"--{name} {getattr(options, name)}: name either origins or filters, not both")
    return find(read_letters(settings), options.origins)


def _dlq_filter(options: argparse.Namespace, settings: Settings) -> "Filter":
    from topology.dead_letters import Filter, parse_time

    return Filter(
        kind=options.kind,
        stage=options.stage,
        topics=() if options.topic is None else (options.topic, settings.topic(options.topic)),
        since_ms=None if options.since is None else parse_time(options.since),
        until_ms=None if options.until is None else parse_time(options.until),
        handled=getattr(options, "all", False),
    )


def _dlq_confirmed(options: argparse.Namespace, action: str, count: int) -> bool:
    if options.yes or not count:
        return True
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{_letters(count)} to {action}: nobody is there to ask; say --yes")
    try:
        return input(f"{action} {_letters(count)}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


def _settings(options: argparse.Namespace, settings: Settings) -> int:
    for line in settings.lines():
        print(line)
    return 0


if __name__ == "__main__":
    main()
