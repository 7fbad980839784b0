"""Check, index, back up, restore or reshard the attribute table."""

import argparse
import json

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    store = commands.add_parser("store", help="check, index, back up, restore or reshard the attribute table")
    actions = store.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser("check", help="read it all; prints JSON, exits 1 if damaged or a video is there twice")
    check.set_defaults(command=_check)
    index = actions.add_parser("index", help="make what VIBESTREAM_RETRIEVER=lancedb needs; workers may go on")
    index.set_defaults(command=_index)
    backup = actions.add_parser("backup", help="copy one consistent version; workers may go on")
    backup.add_argument("to", metavar="DEST", help="a new folder, or an address in the same object store")
    backup.set_defaults(command=_backup)
    restore = actions.add_parser("restore", help="fill an absent or empty table; stop the store workers first")
    restore.add_argument("source", metavar="SRC", help="what `backup` wrote")
    restore.set_defaults(command=_restore)
    reshard = actions.add_parser("reshard", help="move it into another number of tables; stop the store workers first")
    reshard.add_argument("shards", metavar="N", type=int)
    reshard.set_defaults(command=_reshard)


def _check(options: argparse.Namespace, settings: Settings) -> int:
    import msgspec

    from topology.store import check

    found = check(settings)
    print(json.dumps({**msgspec.to_builtins(found), "ok": found.ok}, indent=2))
    return 0 if found.ok else 1


def _index(options: argparse.Namespace, settings: Settings) -> int:
    from topology.store import index

    print(f"{index(settings)} indexes made")
    return 0


def _backup(options: argparse.Namespace, settings: Settings) -> int:
    from topology.store import backup

    print(f"{backup(settings, options.to)} rows of {settings.store_uri} copied to {options.to}")
    return 0


def _restore(options: argparse.Namespace, settings: Settings) -> int:
    from topology.store import restore

    print(f"{restore(settings, options.source)} rows of {options.source} restored to {settings.store_uri}")
    return 0


def _reshard(options: argparse.Namespace, settings: Settings) -> int:
    from topology.store import reshard

    rows = reshard(settings, options.shards)
    print(f"{rows} rows moved; start the workers with VIBESTREAM_STORE_SHARDS={options.shards}")
    return 0
