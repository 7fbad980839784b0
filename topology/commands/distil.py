"""Distil a student from labels."""

import argparse
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import ConfigurationError
from topology.commands.parsing import Commands, natural
from topology.settings import Settings

if TYPE_CHECKING:
    from models.distil import Fitted
    from models.distil_bands import Held, Trial
    from models.distil_rows import Rows
    from models.space import Trunk
    from schemas.attributes import Catalogue

_FEWEST = 50
_TIER = "nano"
_PRICED = 2_000
_FORMATS = ("silver", "goemotions", "captions")

_EPILOG = """\
silver:     CSV or Parquet, one row per video and attribute: video_id, text, attribute, q or label, source
            (golden or silver), weight (may be left out: 1). `vibestream silver` and `vibestream golden export` write it
goemotions: the published TSV: text, label ids, comment id
captions:   KuaiRec's captions; the attributes are the first-level categories
"""


def add(commands: Commands) -> None:
    """Register the command."""
    distil = commands.add_parser(
        "distil",
        help="train, calibrate and bundle a student from labels",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    distil.add_argument("data", type=Path, nargs="+", help="labelled texts to learn")
    distil.add_argument("--format", choices=_FORMATS, default="silver", help="of the files (default: silver)")
    distil.add_argument("--dev", type=Path, metavar="FILE", help="labelled texts to measure on, and for nothing else")
    distil.add_argument(
        "--attributes",
        choices=["catalogue", "labels"],
        help="what is learned: the catalogue's attributes (silver), or the data set's labels (the others)",
    )
    distil.add_argument("--tier", choices=["nano", "encoder"], help=f"(default: {_TIER})")
    distil.add_argument("--encoder", type=Path, metavar="FILE", help="ONNX sentence encoder, for --tier encoder")
    distil.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="its tokenizer.json (default: the one beside the encoder)"
    )
    distil.add_argument(
        "--media",
        type=Path,
        metavar="FILE",
        help="what `vibestream media embed` saw of the videos: they are fused (nano)",
    )
    distil.add_argument(
        "--space",
        type=Path,
        metavar="BUNDLE",
        help="keep this student's vectors: learn only heads on its trunk, so that workers can swap to the new one",
    )
    distil.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets NAME/VERSION")
    distil.add_argument("--name", help="of the bundle (default: that of --space, or the tier; with media: fused)")
    distil.add_argument("--version", type=natural, help="(default: 1 more than the highest in DIR)")
    distil.add_argument("--seed", type=int, default=1)
    certify = distil.add_argument_group(
        "certified bands", "texts are kept from the student, and the bands tested on them with the LLM's answers"
    )
    certify.add_argument("--teacher-precision", type=_share, metavar="P", help="of the LLM; answers are drawn by it")
    certify.add_argument("--teacher-recall", type=_share, metavar="R", help="of the LLM; answers are drawn by it")
    certify.add_argument(
        "--answers",
        type=Path,
        metavar="FILE",
        help="what it says of the videos, as `evaluate --save-answers` writes it",
    )
    certify.add_argument(
        "--certify-share", type=_share, default=0.2, metavar="SHARE", help="of the texts with golden labels (0.2)"
    )
    distil.set_defaults(command=_distil)


def _distil(options: argparse.Namespace, settings: Settings) -> int:
    missing = [name for name in ("onnx", "scipy") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"{', '.join(missing)} is not installed; distilling needs vibestream[train]")
    from models.bundle import load_manifest
    from models.distil import Title, check_labels, distil, next_version, summary
    from models.distil_formats import SOURCES, label_catalogue, read_rows
    from models.space import read_trunk
    from schemas.attributes import load_catalogue
    from topology.console import progress

    if options.space and (options.tier or options.encoder or options.tokenizer or options.media):
        raise ConfigurationError("--space has its tier and encoder in it; leave --tier, --media and the like out")
    if (options.tier == "encoder") != (options.encoder is not None):
        tier = options.tier or _TIER
        raise ConfigurationError(f"--tier {tier} and --encoder {options.encoder}: the encoder tier takes one")
    trunk = read_trunk(options.space) if options.space else None
    if (options.attributes or ("catalogue" if options.format == "silver" else "labels")) == "labels":
        catalogue = label_catalogue(options.format, options.data)
    else:
        catalogue = load_catalogue(settings.catalogue_path)
    rows = read_rows(options.format, options.data, catalogue)
    dev = read_rows(options.format, [options.dev], catalogue) if options.dev else None
    if options.media:
        rows, dev = _with_media(options, rows), dev and _with_media(options, dev)
    if len(rows.texts) < _FEWEST:
        raise ConfigurationError(f"{len(rows.texts)} texts teach nothing; give at least {_FEWEST}, better thousands")
    check_labels(rows, catalogue, "given")
    held = _held(options, rows, trunk)
    trial = _trial(options, held, catalogue) if held else None
    rows = held.learn if held else rows
    default = trunk.manifest.name if trunk else "fused" if options.media else options.tier or _TIER
    name = options.name or default
    title = Title(name, options.version or next_version(options.out, name), SOURCES[options.format], options.seed)
    with progress() as bars:
        task = bars.add_task(f"distil {name}", total=_steps(options, trunk, len(rows.texts), len(catalogue.ids)))
        fitted = _fit(options, rows, trunk, lambda: bars.advance(task))
    path = distil(fitted, rows, dev, catalogue, title, options.out, trial)
    print(f"{path}: {summary(load_manifest(path))}")
    print(_cost(settings, path, (dev or rows).texts))
    return 0


def _with_media(options: argparse.Namespace, rows: "Rows") -> "Rows":
    from dataclasses import replace

    from models.media_rows import read_media

    if options.encoder:
        raise ConfigurationError(f"--media goes with --tier nano, not {options.tier}")
    if not rows.videos:
        raise ConfigurationError("--media names videos, and these texts have no ids; give labels as silver")
    return replace(rows, media=read_media(options.media, tuple(rows.videos)))


def _cost(settings: Settings, path: Path, texts: Sequence[str]) -> str:
    import asyncio

    from models.features import MAX_CHARACTERS
    from topology.cost import usd_per_1000

    try:
        usd = asyncio.run(usd_per_1000(settings, path, [text[:MAX_CHARACTERS] for text in texts[:_PRICED]]))
    except ConfigurationError as error:
        return f"what the LLM will cost is not known: {error}"
    return f"{settings.gemini_model} would cost about {usd:.2f} US dollars per 1,000 uploads like these texts"


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in (0, 1]")
    return value


def _held(options: argparse.Namespace, rows: "Rows", trunk: "Trunk | None") -> "Held | None":
    from models.distil_bands import hold_out

    rates = (options.teacher_precision, options.teacher_recall)
    if (None in rates) != (rates == (None, None)) or (options.answers and rates != (None, None)):
        raise ConfigurationError("give --teacher-precision and --teacher-recall, or --answers, or none of them")
    if options.answers is None and None in rates:
        return None
    return hold_out(rows, options.certify_share, options.seed, trunk.learned if trunk else None)


def _trial(options: argparse.Namespace, held: "Held", catalogue: "Catalogue") -> "Trial":
    from models.band_path import Rates
    from models.distil_bands import answered, stated

    if options.answers:
        return answered(held, options.answers, catalogue.ids)
    return stated(held, Rates(options.teacher_precision, options.teacher_recall))


def _steps(options: argparse.Namespace, trunk: "Trunk | None", rows: int, attributes: int) -> int:
    if trunk:
        from models.space import space_steps

        return space_steps(trunk, rows, attributes)
    if options.encoder:
        from models.encoder_heads import encoder_steps

        return encoder_steps(rows, attributes)
    from models.nano import nano_steps

    return nano_steps(attributes)


def _fit(options: argparse.Namespace, rows: "Rows", trunk: "Trunk | None", advance: Callable[[], None]) -> "Fitted":
    if rows.media:
        from models.fused import fit_fused

        return fit_fused(rows, options.seed, advance)
    if trunk:
        from models.space import fit_space

        return fit_space(rows, trunk, options.seed, advance)
    if options.encoder:
        from models.encoder_heads import fit_encoder

        tokenizer = options.tokenizer or options.encoder.with_name("tokenizer.json")
        return fit_encoder(rows, options.encoder, tokenizer, options.seed, advance)
    from models.nano import fit_nano

    return fit_nano(rows, options.seed, advance)
