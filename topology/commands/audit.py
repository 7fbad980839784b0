"""Prove that every upload is accounted for."""

import argparse
import json

from topology.commands.parsing import Commands
from topology.settings import Settings


def add(commands: Commands) -> None:
    """Register the command."""
    audit = commands.add_parser("audit", help="prove that every upload is accounted for; prints JSON, exits 1 if not")
    audit.set_defaults(command=_audit)


def _audit(options: argparse.Namespace, settings: Settings) -> int:
    import msgspec

    from schemas.attributes import load_catalogue
    from topology.attribute_store import open_table
    from topology.audit import audit

    result = audit(settings, open_table(settings, load_catalogue(settings.catalogue_path)))
    print(json.dumps({**msgspec.to_builtins(result), "ok": result.ok}, indent=2))
    return 0 if result.ok else 1
