"""What answers are held against: the labels of a golden set, or of GoEmotions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.evaluation import Truth
from models.features import upload_text
from models.goemotions import LABELS, read_goemotions
from models.golden import GoldenSet
from models.golden_labels import Method, labels_of
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError
from schemas.events import VideoUpload


@dataclass(frozen=True)
class Task:
    """What a system is asked, in the order of the truth: texts for a student, uploads (or none) for an LLM."""

    truth: Truth
    texts: Sequence[str]
    uploads: Sequence[VideoUpload]


def golden_task(golden: GoldenSet, source: str, attributes: Sequence[str], method: Method) -> Task:
    """Return the golden set's labels of `attributes`; undecided items are not known, and count for nothing.

    Raises:
        ConfigurationError: an attribute was not rated.

    """
    rated = tuple(golden.attributes)
    unknown = [name for name in attributes if name not in rated]
    if unknown:
        raise ConfigurationError(f"{source} has no ratings of {', '.join(unknown)}; it has {', '.join(rated)}")
    columns = [rated.index(name) for name in attributes]
    truth = Truth(
        source=f"{source} {golden.split}, {method}",
        videos=[upload.video_id for upload in golden.uploads],
        attributes=tuple(attributes),
        label=np.stack([labels_of(golden, name, method).label for name in attributes], axis=1),
        weight=golden.weight[:, columns],
        votes={name: golden.votes[name] for name in attributes},
    )
    return Task(truth, [upload_text(upload) for upload in golden.uploads], golden.uploads)


def goemotions_task(path: Path, catalogue: Catalogue) -> Task:
    """Read a split of GoEmotions; `catalogue` has an attribute for each of its labels, in any order.

    Raises:
        ConfigurationError: the attributes are not the labels, or the file can't be read or is malformed.

    """
    taught = [label for attribute in catalogue.attributes for label in attribute.labels.get("goemotions", ())]
    if sorted(taught) != sorted(LABELS) or len(catalogue.ids) != len(LABELS):
        raise ConfigurationError(
            f"the bundle has {len(catalogue.ids)} attributes ({', '.join(catalogue.ids[:3])}, ...), and --format"
            f" goemotions needs one for each of its {len(LABELS)} labels; distil one with --format goemotions"
            " --attributes labels, or use --golden"
        )
    try:
        labelled = read_goemotions(path, LABELS, catalogue)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error}; give a GoEmotions split (.tsv or .tsv.gz)") from error
    label = labelled.labels.astype(np.int8)
    videos = [str(i) for i in range(len(label))]
    return Task(Truth(path.name, videos, catalogue.ids, label, np.ones(label.shape)), labelled.texts, ())
