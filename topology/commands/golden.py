"""Import what raters said, and see how far they agree."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from topology.commands.evaluate import require_scipy
from topology.commands.parsing import Commands, natural
from topology.settings import Settings

if TYPE_CHECKING:
    from models.golden_labels import GoldenReport


def add(commands: Commands) -> None:
    """Register the command."""
    golden = commands.add_parser("golden", help="import raters' labels as a golden set, and report agreement")
    actions = golden.add_subparsers(required=True, metavar="ACTION")
    imported = actions.add_parser("import", help="check rows and write a golden set; a third is frozen as release test")
    imported.add_argument("files", type=Path, nargs="+", metavar="FILE", help="CSV or Parquet, a row per rating")
    imported.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    imported.set_defaults(command=_import)
    report = actions.add_parser("report", help="agreement, labels, and what to adjudicate")
    report.add_argument("folder", type=Path, metavar="DIR", help="what `import` wrote")
    report.add_argument("--release", action="store_true", help="the release test instead of dev; it is recorded")
    report.add_argument("--answers", type=Path, metavar="FILE", help="a model's answers: may it stand in for a rater?")
    report.add_argument("--top", type=natural, default=20, metavar="N", help="items to adjudicate that are shown")
    report.add_argument("--json", type=Path, metavar="OUT", help="write everything there")
    report.set_defaults(command=_report)
    export = actions.add_parser("export", help="write the labels of dev for `distil`; never those of the release test")
    export.add_argument("folder", type=Path, metavar="DIR", help="what `import` wrote")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="Parquet or CSV, by its name")
    export.set_defaults(command=_export)


def _import(options: argparse.Namespace, settings: Settings) -> int:
    from models.golden import write_golden
    from models.golden_rows import read_ratings
    from schemas.attributes import load_catalogue

    catalogue = load_catalogue(settings.catalogue_path)
    manifest = write_golden(options.out, read_ratings(options.files, catalogue), catalogue, options.files)
    for split, summary in manifest.splits.items():
        print(f"{split}: {summary.videos} videos, {summary.ratings} ratings")
    print(f"{manifest.raters} raters, {len(manifest.attributes)} attributes, in {options.out}")
    return 0


def _export(options: argparse.Namespace, settings: Settings) -> int:
    require_scipy()
    from models.golden import read_golden
    from models.golden_export import export_golden

    print(f"{options.out}: {export_golden(read_golden(options.folder), options.out)} labels")
    return 0


def _report(options: argparse.Namespace, settings: Settings) -> int:
    require_scipy()
    import msgspec

    from models.alt_test import alt_test
    from models.answers_file import read_answers_file
    from models.golden import read_golden, release_reads
    from models.golden_labels import report
    from models.truth import golden_task

    purpose = f"golden report{f' of {options.answers.name}' if options.answers else ''}" if options.release else None
    golden = read_golden(options.folder, release_for=purpose)
    tests = None
    if options.answers:
        truth = golden_task(golden, options.folder.name, tuple(golden.attributes), "dawid_skene").truth
        label = read_answers_file(options.answers, truth).label
        tests = {name: alt_test(golden.votes[name], label[:, a]) for a, name in enumerate(truth.attributes)}
    found = report(golden, tests)
    if options.json:
        reads = msgspec.to_builtins(release_reads(options.folder))
        content = {**msgspec.to_builtins(found), "release_reads": reads}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _print(found, options.top)
    return 0


def _print(found: "GoldenReport", top: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 160
    table = Table(title=f"{found.split}: {found.videos} videos, {found.raters} raters", title_justify="left")
    heads = ("attribute", "items", "ratings", "unsure", "raters", "alpha", "present", "undecided", "ties", "alt-test ω")
    for head in heads:
        table.add_column(head, justify="left" if head == "attribute" else "right")
    for name, one in found.attributes.items():
        tested = one.alt_test
        omega = "–" if tested is None or tested.winning_rate is None else f"{tested.winning_rate:.2f}"
        passed = {True: " pass", False: " fail", None: ""}[tested.passed if tested else None]
        values = (one.items, one.ratings, one.unsure, one.raters, _shown(one.alpha), one.positives, one.undecided)
        table.add_row(name, *map(str, values), str(one.majority_ties), omega + passed)
    console.print(table)
    if found.to_adjudicate:
        doubts = Table(title=f"to adjudicate: {len(found.to_adjudicate)}, most uncertain first", title_justify="left")
        for head in ("video", "attribute", "p", "yes", "no", "unsure", "text"):
            doubts.add_column(head, no_wrap=True, max_width=90 if head == "text" else None)
        for doubt in found.to_adjudicate[:top]:
            votes = (doubt.votes_present, doubt.votes_absent, doubt.unsure)
            row = (doubt.video, doubt.attribute, _shown(doubt.present), *map(str, votes), doubt.text)
            doubts.add_row(*(value.replace("[", r"\[") for value in row))
        console.print(doubts)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
