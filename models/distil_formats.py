"""The files that a student can be distilled from, and the attributes they teach."""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from models.distil_rows import Rows, read_labels, rows_of
from models.goemotions import LABELS, LabelledTexts, read_goemotions
from schemas.attributes import Attribute, Catalogue
from schemas.errors import ConfigurationError

Format = Literal["silver", "goemotions", "captions"]
FORMATS: tuple[Format, ...] = ("silver", "goemotions", "captions")

_PRECISION, _RECALL = 0.7, 0.6
_ABSENT = {"", "UNKNOWN", "[]"}
_CATEGORY = "first_level_category"
_CAPTION_COLUMNS = ("caption", "topic_tag", "manual_cover_text", f"{_CATEGORY}_id", f"{_CATEGORY}_name")


@dataclass(frozen=True)
class Source:
    """What a model card says of the data."""

    data: str
    licence: str


SOURCES: dict[Format, Source] = {
    "silver": Source("golden and silver labels of this catalogue", "that of the labelled videos"),
    "goemotions": Source("GoEmotions (Demszky et al. 2020), google-research/goemotions", "Apache-2.0"),
    "captions": Source("KuaiRec captions and categories (Gao et al. 2022)", "CC BY-SA 4.0"),
}


def read_rows(kind: Format, paths: Sequence[Path], catalogue: Catalogue) -> Rows:
    """Read labelled texts; columns are in the order of the catalogue.

    Raises:
        ConfigurationError: a file can't be read, a row is wrong, or an attribute names no label of the format.

    """
    match kind:
        case "silver":
            return read_labels(paths, catalogue)
        case "goemotions":
            return _joined([read_goemotions(path, LABELS, catalogue) for path in paths])
        case "captions":
            return _joined([read_captions(path, catalogue) for path in paths])


def label_catalogue(kind: Format, paths: Sequence[Path]) -> Catalogue:
    """Return a catalogue whose attributes are the labels of the data set themselves.

    Raises:
        ConfigurationError: the format has none of its own, or a file can't be read.

    """
    match kind:
        case "silver":
            raise ConfigurationError("--format silver has no labels of its own; its attributes are the catalogue's")
        case "goemotions":
            return Catalogue(tuple(_attribute(name, name, kind) for name in LABELS))
        case "captions":
            names = {row[3]: row[4] for path in paths for row in _captions(path)}
            ordered = sorted(names, key=lambda number: int(float(number)))
            return Catalogue(
                tuple(_attribute(f"category_{int(float(number))}", names[number], kind) for number in ordered)
            )


def read_captions(path: Path, catalogue: Catalogue) -> LabelledTexts:
    """Read captions of KuaiRec: caption, tags and cover text; an attribute is present if a label names the category.

    Videos without a category are left out.

    Raises:
        ConfigurationError: the file can't be read, or an attribute names no category.

    """
    bare = [attribute.id for attribute in catalogue.attributes if not attribute.labels.get("captions")]
    if bare:
        raise ConfigurationError(f"attributes {', '.join(bare)} have no labels.captions; name categories there")
    rows = list(_captions(path))
    if not rows:
        raise ConfigurationError(f"{path} holds no rows with a category; expected captions of KuaiRec")
    texts = ["\n".join(part for part in (row[0], row[1].strip("[]").replace(",", " "), row[2]) if part) for row in rows]
    labels = [[row[4] in attribute.labels["captions"] for attribute in catalogue.attributes] for row in rows]
    return LabelledTexts(texts, np.array(labels, np.bool_))


def _captions(path: Path) -> list[list[str]]:
    """Return caption, tags, cover text, category number and category name of the videos that have one."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _CAPTION_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigurationError(f"{path} lacks the columns {', '.join(missing)} of KuaiRec's captions")
            rows = [["" if row[name] in _ABSENT else row[name] for name in _CAPTION_COLUMNS] for row in reader]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return [row for row in rows if row[3] and row[4]]


def _attribute(attribute_id: str, name: str, kind: Format) -> Attribute:
    return Attribute(
        id=attribute_id,
        name=name,
        version=1,
        definition=f"Labelled {name} in {SOURCES[kind].data}.",
        includes=(name,),
        positive_examples=(name,),
        target_precision=_PRECISION,
        target_recall=_RECALL,
        labels={kind: (name,)},
    )


def _joined(parts: Sequence[LabelledTexts]) -> Rows:
    texts = [text for part in parts for text in part.texts]
    return rows_of(LabelledTexts(texts, np.concatenate([part.labels for part in parts])))
