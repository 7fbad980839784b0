"""Evaluate an annotator on labelled videos; the exit code can gate a build."""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import ConfigurationError
from topology.commands.parsing import Commands
from topology.settings import Settings

if TYPE_CHECKING:
    from models.evaluation import Answers, Comparison, Evaluation
    from models.truth import Task
    from schemas.attributes import Catalogue

_LLMS = ("gemini", "local")


def add(commands: Commands) -> None:
    """Register the command."""
    evaluate = commands.add_parser("evaluate", help="score a student, an LLM or a file of answers on a golden set")
    system = evaluate.add_mutually_exclusive_group(required=True)
    system.add_argument("--bundle", metavar="DIR", help="a student bundle, at the thresholds that it fixes")
    system.add_argument("--llm", choices=_LLMS, help="the LLM and prompt of the settings")
    system.add_argument("--answers", metavar="FILE", help="CSV: video, attribute, label, and p, latency_ms, usd")
    data = evaluate.add_mutually_exclusive_group(required=True)
    data.add_argument("--golden", type=Path, metavar="DIR", help="what `golden import` wrote")
    data.add_argument("--data", type=Path, metavar="FILE", help="a labelled file, with --format")
    evaluate.add_argument("--format", choices=["goemotions"], help="of --data: text, label ids, comment id")
    evaluate.add_argument("--release", action="store_true", help="the release test instead of dev; it is recorded")
    evaluate.add_argument(
        "--truth", choices=["dawid_skene", "majority"], default="dawid_skene", help="of raters' votes"
    )
    evaluate.add_argument("--attributes", metavar="A,B", help="only these (default: all that were rated)")
    evaluate.add_argument(
        "--against", metavar="SYSTEM", help="compare with a bundle, a CSV of answers, gemini or local"
    )
    evaluate.add_argument("--json", type=Path, metavar="OUT", help="write all scores there")
    evaluate.add_argument("--html", type=Path, metavar="OUT", help="write a report that opens offline")
    evaluate.add_argument("--save-answers", type=Path, metavar="OUT", help="write the answers, to compare with later")
    evaluate.add_argument("--min-f1", type=float, metavar="F1", help="exit 1 if macro F1 is below")
    evaluate.add_argument("--min-delta", type=float, metavar="D", help="exit 1 if the lower bound of ΔF1 is not above")
    evaluate.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace, settings: Settings) -> int:
    require_scipy()
    from models.answers_file import write_answers_file
    from models.evaluation import compare, evaluate
    from models.report import Judged, html_report

    if options.min_delta is not None and not options.against:
        raise ConfigurationError("--min-delta compares with another system; name it with --against")
    system = options.bundle or options.llm or options.answers
    task = _task(options, settings, system)
    truth = task.truth
    answers = _answers(system, task, settings)
    if options.save_answers:
        write_answers_file(options.save_answers, truth, answers)
    judged = Judged(answers, evaluate(truth, answers))
    other = comparison = None
    if options.against:
        against = _answers(options.against, task, settings)
        other, comparison = Judged(against, evaluate(truth, against)), compare(truth, answers, against)
    failed = _failed_gates(options, judged.evaluation, comparison)
    if options.json:
        content = _content(judged.evaluation, other.evaluation if other else None, comparison, failed)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.html:
        options.html.write_text(html_report(truth, judged, other, comparison), encoding="utf-8")
    _print(judged.evaluation, comparison)
    for gate in failed:
        print(f"failed: {gate}")
    return 1 if failed else 0


def require_scipy() -> None:
    """Check that what tests and intervals need is installed.

    Raises:
        ConfigurationError: it is not.

    """
    if find_spec("scipy") is None:
        raise ConfigurationError("scipy is not installed; evaluating needs vibestream[train]")


def _task(options: argparse.Namespace, settings: Settings, system: str) -> "Task":
    """Return what is asked; refuses a system that can't be asked it, before the release test is read."""
    from models.bundle import load_manifest
    from models.golden import check_versions, read_golden, read_manifest
    from models.truth import goemotions_task, golden_task
    from schemas.attributes import load_catalogue

    systems = [system] + ([options.against] if options.against else [])
    if options.data:
        if options.format is None or not all(Path(one).is_dir() for one in systems):
            raise ConfigurationError(f"--data {options.data} takes --format goemotions and bundles; else use --golden")
        if options.release or options.attributes:
            raise ConfigurationError("--release and --attributes belong to --golden")
        return goemotions_task(options.data, load_manifest(Path(system)).catalogue)
    rated = read_manifest(options.golden).attributes
    chosen = tuple(options.attributes.split(",")) if options.attributes else tuple(rated)
    for one in systems:
        if one in _LLMS or Path(one).is_dir():
            catalogue = load_catalogue(settings.catalogue_path) if one in _LLMS else load_manifest(Path(one)).catalogue
            check_versions({name: rated[name] for name in chosen if name in rated}, _versions(catalogue), one)
    purpose = f"evaluate {' against '.join(systems)}" if options.release else None
    return golden_task(read_golden(options.golden, release_for=purpose), options.golden.name, chosen, options.truth)


def _versions(catalogue: "Catalogue") -> dict[str, int]:
    return {attribute.id: attribute.version for attribute in catalogue.attributes}


def _answers(system: str, task: "Task", settings: Settings) -> "Answers":
    import asyncio

    from models.answering import ask_student
    from models.answers_file import read_answers_file

    path = Path(system)
    if system in _LLMS:
        return asyncio.run(_ask_llm(system, task, settings))
    if path.is_dir():
        return asyncio.run(ask_student(path, task.truth, task.texts, settings.provider))
    if path.is_file():
        return read_answers_file(path, task.truth)
    raise ConfigurationError(f"{system} is no folder of a bundle, no file of answers, and none of {', '.join(_LLMS)}")


async def _ask_llm(llm: str, task: "Task", settings: Settings) -> "Answers":
    from models.answering import ask_llm
    from schemas.attributes import load_catalogue
    from topology.annotator import make_annotator
    from topology.settings import with_changes

    annotator = make_annotator(with_changes(settings, llm=llm), load_catalogue(settings.catalogue_path))
    try:
        return await ask_llm(annotator, task.truth, task.uploads, one_by_one=llm == "local")
    finally:
        await annotator.close()


def _failed_gates(options: argparse.Namespace, evaluation: "Evaluation", comparison: "Comparison | None") -> list[str]:
    failed: list[str] = []
    f1 = evaluation.macro_f1
    if options.min_f1 is not None and (f1 is None or f1 < options.min_f1):
        failed.append(f"macro F1 {f1}, expected at least {options.min_f1}")
    if options.min_delta is not None and comparison is not None:
        interval = comparison.macro_f1.interval
        if interval is None or interval.lo <= options.min_delta:
            bound = interval and interval.lo
            failed.append(f"lower bound of the difference in macro F1 {bound}, expected above {options.min_delta}")
    return failed


def _content(
    evaluation: "Evaluation", other: "Evaluation | None", comparison: "Comparison | None", failed: list[str]
) -> dict[str, Any]:
    import msgspec

    content: dict[str, Any] = msgspec.to_builtins(evaluation)
    content["videos_per_cpu_s"] = evaluation.effort.videos_per_cpu_s
    content["against"] = msgspec.to_builtins(other)
    content["comparison"] = msgspec.to_builtins(comparison)
    content["failed_gates"] = failed
    return content


def _print(evaluation: "Evaluation", comparison: "Comparison | None") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 160
    table = Table(title=f"{evaluation.system} on {evaluation.data}", title_justify="left")
    for head in ("attribute", "judged", "present", "abstained", "precision", "recall", "F1", "ECE", "Δ F1"):
        table.add_column(head, justify="left" if head == "attribute" else "right")
    for name, score in evaluation.attributes.items():
        delta = comparison.attributes[name] if comparison else None
        table.add_row(
            name,
            *map(str, (score.judged, score.positives, score.abstained)),
            _with(score.precision, score.precision_interval),
            _with(score.recall, score.recall_interval),
            _with(score.f1, score.f1_interval),
            _with(score.ece, None),
            _with(delta.delta, delta.interval) if delta else "",
        )
    console.print(table)
    effort = evaluation.effort
    lines = {
        "macro F1": _with(evaluation.macro_f1, evaluation.macro_f1_interval),
        "micro F1": _with(evaluation.micro_f1, evaluation.micro_f1_interval),
        f"ECE ({evaluation.ece_bins} bins of equal mass, mean)": _with(evaluation.ece, None),
        "abstained": evaluation.abstained,
        "videos per CPU second": effort.videos_per_cpu_s,
        "p95 latency, ms": effort.latency_p95_ms,
        "tokens per video, in and out": effort.input_tokens and f"{effort.input_tokens}, {effort.output_tokens}",
        "US dollars per 1,000 videos": effort.usd_per_1000,
    }
    if comparison:
        lines[f"macro F1 minus that of {comparison.against}"] = _with(
            comparison.macro_f1.delta, comparison.macro_f1.interval
        )
    for name, value in lines.items():
        if value is not None:
            console.print(f"{name}: {value}", markup=False, highlight=False)


def _with(value: float | None, interval: tuple[float, float] | None) -> str:
    shown = "–" if value is None else f"{value:.3f}"
    return shown + (f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else "")
