"""Which student serves: list, promote, roll back and shadow; running workers follow."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from topology.commands.parsing import Commands, natural
from topology.settings import Settings

if TYPE_CHECKING:
    from models.registry import Registry

_FOLLOW = (
    "workers with VIBESTREAM_STUDENTS on it follow within seconds, see vibestream_student_version in their metrics"
)


def add(commands: Commands) -> None:
    """Register the command."""
    student = commands.add_parser("student", help="list, promote, roll back or shadow the students of a registry")
    actions = student.add_subparsers(required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="the versions, and who serves")
    listed.set_defaults(command=_list)
    promote = actions.add_parser("promote", help="let a version serve, if it fits catalogue, table and vectors")
    promote.set_defaults(command=_promote)
    rollback = actions.add_parser("rollback", help="let the one before serve again")
    rollback.set_defaults(command=_rollback)
    shadow = actions.add_parser("shadow", help="compare a version with who serves, on VIBESTREAM_SHADOW_SHARE")
    shadow.set_defaults(command=_shadow)
    for action in (listed, promote, rollback, shadow):
        action.add_argument("folder", type=Path, metavar="DIR", help="the registry: DIR/VERSION are bundles")
    promote.add_argument("version", type=natural, metavar="VERSION")
    chosen = shadow.add_mutually_exclusive_group(required=True)
    chosen.add_argument("version", type=natural, metavar="VERSION", nargs="?")
    chosen.add_argument("--off", action="store_true", help="compare nobody")


def _list(options: argparse.Namespace, settings: Settings) -> int:
    from rich.console import Console
    from rich.table import Table

    from schemas.errors import BundleError
    from topology.students import describe

    registry = _registry(options)
    history, shadow = registry.history(), registry.shadow()
    table = Table("version", "", "dim", "attributes", "macro F1", "certified", box=None)
    damaged: list[str] = []
    for version in registry.versions():
        roles = [
            *(["serving"] if history[:1] == (version,) else []),
            *(["before"] if version in history[1:] and version != history[0] else []),
            *(["shadow"] if version == shadow else []),
        ]
        try:
            table.add_row(str(version), ", ".join(roles), *describe(registry, version))
        except BundleError as error:
            damaged.append(str(error))
            table.add_row(str(version), ", ".join([*roles, "damaged"]))
    Console().print(table)
    for reason in damaged:
        print(f"damaged: {reason}")
    return 1 if damaged else 0


def _promote(options: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    from topology.students import check_promotion

    registry = _registry(options)
    before = next(iter(registry.history()), "nobody")
    asyncio.run(check_promotion(settings, registry, options.version))
    registry.promote(options.version)
    print(f"{options.folder}: {options.version} serves now, before {before}; {_FOLLOW}")
    return 0


def _rollback(options: argparse.Namespace, settings: Settings) -> int:
    from topology.students import check_loads

    registry = _registry(options)
    before, version = registry.current(), registry.previous()
    check_loads(settings, registry, version)
    registry.rollback()
    print(
        f"{options.folder}: {version} serves again, before {before}; {_FOLLOW}. What {before} annotated stays until the"
        " video is uploaded again"
    )
    return 0


def _shadow(options: argparse.Namespace, settings: Settings) -> int:
    from topology.students import check_loads

    registry = _registry(options)
    if options.off:
        registry.set_shadow(None)
        print(f"{options.folder}: nobody is compared")
        return 0
    check_loads(settings, registry, options.version)
    registry.set_shadow(options.version)
    print(
        f"{options.folder}: {options.version} is compared on {settings.shadow_share:.0%} of the uploads, see"
        " vibestream_shadow_disagreements"
    )
    return 0


def _registry(options: argparse.Namespace) -> "Registry":
    from models.registry import Registry

    registry = Registry(options.folder)
    registry.versions()
    return registry
