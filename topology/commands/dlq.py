"""List, show, replay or drop dead letters."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from schemas.errors import ConfigurationError, ErrorKind
from topology.commands.parsing import Commands, natural
from topology.settings import ALL_ROLES, Settings

if TYPE_CHECKING:
    from schemas.dead_letter import DeadLetter
    from topology.dead_letters import Filter


def add(commands: Commands) -> None:
    """Register the command."""
    dlq = commands.add_parser("dlq", help="list, show, replay or drop dead letters")
    filters = argparse.ArgumentParser(add_help=False)
    filters.add_argument("--kind", choices=get_args(ErrorKind))
    filters.add_argument("--stage", choices=ALL_ROLES)
    filters.add_argument("--topic", help="where the record came from, with or without the prefix")
    filters.add_argument("--since", metavar="TIME", help="failed then or later: an ISO time (UTC), or how long ago: 2h")
    filters.add_argument("--until", metavar="TIME", help="failed earlier: the same")
    filters.add_argument("--limit", type=natural, metavar="N", help="at most N, the oldest failures first")
    chosen = argparse.ArgumentParser(add_help=False, parents=[filters])
    chosen.add_argument("origins", nargs="*", metavar="ORIGIN", help="topic/partition/offset, instead of filters")
    chosen.add_argument("--yes", action="store_true", help="don't ask")
    actions = dlq.add_subparsers(required=True, metavar="ACTION")

    listed = actions.add_parser("list", parents=[filters], help="one line a letter, without those handled")
    listed.add_argument("--all", action="store_true", help="also those that were replayed or dropped")
    listed.add_argument("--json", action="store_true", help="one whole letter a line, in JSON")
    listed.set_defaults(command=_list)

    shown = actions.add_parser("show", help="everything about one letter")
    shown.add_argument("origin", metavar="ORIGIN", help="topic/partition/offset, as dlq list has it")
    shown.set_defaults(command=_show)

    replayed = actions.add_parser("replay", parents=[chosen], help="send the records to their topics again")
    replayed.add_argument(
        "--max-replays", type=natural, metavar="N", help="skip what was replayed so often (default 3)"
    )
    replayed.set_defaults(command=_replay)

    dropped = actions.add_parser("drop", parents=[chosen], help="mark letters as handled without replaying them")
    dropped.set_defaults(command=_drop)


def _list(options: argparse.Namespace, settings: Settings) -> int:
    from topology.dead_letters import json_line, line, read_letters, select

    wanted = _filter(options, settings)
    found = select(read_letters(settings).values(), wanted)
    chosen = found[: options.limit]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for letter in chosen:
        print(json_line(letter) if options.json else line(letter, width))
    count = _letters(len(found)) if len(chosen) == len(found) else f"{len(chosen)} of {_letters(len(found))}"
    print(count, file=sys.stderr if options.json else sys.stdout)
    return 0


def _show(options: argparse.Namespace, settings: Settings) -> int:
    from topology.dead_letters import describe, find, read_letters

    for letter in find(read_letters(settings), [options.origin]):
        print(describe(letter))
    return 0


def _replay(options: argparse.Namespace, settings: Settings) -> int:
    from topology.dead_letters import MAX_REPLAYS, replay, replays
    from topology.producer import ConfirmedProducer

    chosen, most = _chosen(options, settings), options.max_replays or MAX_REPLAYS
    due = [letter for letter in chosen if replays(letter) < most]
    for letter in chosen:
        if replays(letter) >= most:
            print(f"skipped {letter.origin}: replayed {replays(letter)} times, --max-replays {most}")
    if not _confirmed(options, "replay", len(due)):
        return 1
    producer = ConfirmedProducer(settings)
    replay(settings, producer, due)
    producer.close()
    print(f"{_letters(len(due))} replayed")
    return 0


def _drop(options: argparse.Namespace, settings: Settings) -> int:
    from topology.dead_letters import drop
    from topology.producer import ConfirmedProducer

    chosen = _chosen(options, settings)
    if not _confirmed(options, "drop", len(chosen)):
        return 1
    producer = ConfirmedProducer(settings)
    drop(settings, producer, chosen)
    producer.close()
    print(f"{_letters(len(chosen))} dropped")
    return 0


def _chosen(options: argparse.Namespace, settings: Settings) -> "Sequence[DeadLetter]":
    from topology.dead_letters import find, read_letters, select

    if not options.origins:
        wanted = _filter(options, settings)
        return select(read_letters(settings).values(), wanted)[: options.limit]
    for name in ("kind", "stage", "topic", "since", "until", "limit"):
        if getattr(options, name) is not None:
            raise ConfigurationError(f"--{name} {getattr(options, name)}: name either origins or filters, not both")
    return find(read_letters(settings), options.origins)


def _filter(options: argparse.Namespace, settings: Settings) -> "Filter":
    from topology.dead_letters import Filter, parse_time

    return Filter(
        kind=options.kind,
        stage=options.stage,
        topics=() if options.topic is None else (options.topic, settings.topic(options.topic)),
        since_ms=None if options.since is None else parse_time(options.since),
        until_ms=None if options.until is None else parse_time(options.until),
        handled=getattr(options, "all", False),
    )


def _confirmed(options: argparse.Namespace, action: str, count: int) -> bool:
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
