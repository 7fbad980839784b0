"""From raters' votes to labels, and what is worth a second look."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.agreement import Votes, dawid_skene, krippendorff_alpha, majority
from models.alt_test import AltTest
from models.golden import GoldenSet, Split
from models.prompt import video_text

Method = Literal["dawid_skene", "majority"]

_SHOWN_TEXT = 120


@dataclass(frozen=True)
class Labels:
    """One attribute: label [n] (1, 0, -1: undecided or not asked) and how sure it is, in [.5, 1] where decided.

    `method` is what was used: Dawid and Skene's model needs three raters and items that two of them rated.
    """

    label: NDArray[np.int8]
    confidence: NDArray[np.float64]
    method: Method


class AttributeAgreement(Struct, frozen=True):
    """How raters agree on one attribute.

    `alpha` is None where it is not defined. `single_vote_raters` voted once and say nothing about agreement with
    themselves; `undecided` items have a tie or no vote; `differs_from_majority`: items with another label than the
    majority's.
    """

    items: int
    ratings: int
    unsure: int
    raters: int
    single_vote_raters: int
    alpha: float | None
    method: Method
    positives: int
    undecided: int
    majority_positives: int
    majority_ties: int
    differs_from_majority: int
    adjudicated: int
    alt_test: AltTest | None = None


class Doubt(Struct, frozen=True):
    """An item to adjudicate; `present` is None where nobody could say."""

    video: str
    attribute: str
    present: float | None
    votes_present: int
    votes_absent: int
    unsure: int
    text: str


class GoldenReport(Struct, frozen=True):
    """One split of a golden set; `to_adjudicate` has the most uncertain items first."""

    split: Split
    videos: int
    raters: int
    attributes: dict[str, AttributeAgreement]
    to_adjudicate: list[Doubt]


def labels_of(golden: GoldenSet, attribute: str, method: Method = "dawid_skene") -> Labels:
    """Return the labels of an attribute; an adjudicated one stands over all votes, at confidence 1."""
    votes = golden.votes[attribute]
    column = tuple(golden.attributes).index(attribute)
    final = golden.adjudicated[:, column]
    if method == "dawid_skene" and _enough_raters(votes):
        found = dawid_skene(votes)
        label, confidence = found.label, np.maximum(found.present, 1 - found.present)
    else:
        method = "majority"
        label, confidence = majority(votes.counts)
    return Labels(np.where(final >= 0, final, label), np.where(final >= 0, 1.0, np.nan_to_num(confidence)), method)


def _enough_raters(votes: Votes) -> bool:
    """Three raters, and typically two a video: below that, the model can't tell raters' errors from videos' labels."""
    each = votes.counts.sum(axis=1)
    return len(np.unique(votes.rater)) >= 3 and float(np.median(each[each > 0])) >= 2


def report(golden: GoldenSet, alt_tests: dict[str, AltTest] | None = None, threshold: float = 0.95) -> GoldenReport:
    """Report agreement, and the items whose label is less sure than `threshold` and not adjudicated."""
    attributes: dict[str, AttributeAgreement] = {}
    doubts: list[tuple[float, Doubt]] = []
    for column, name in enumerate(golden.attributes):
        votes, labels = golden.votes[name], labels_of(golden, name)
        counts = votes.counts
        by_majority, _ = majority(counts)
        asked, final = golden.asked[:, column], golden.adjudicated[:, column]
        per_rater = np.bincount(votes.rater, minlength=votes.raters)
        attributes[name] = AttributeAgreement(
            items=int(asked.sum()),
            ratings=len(votes.item),
            unsure=int(golden.unsure[:, column].sum()),
            raters=int((per_rater > 0).sum()),
            single_vote_raters=int((per_rater == 1).sum()),
            alpha=_rounded(krippendorff_alpha(counts)),
            method=labels.method,
            positives=int((labels.label == 1).sum()),
            undecided=int((asked & (labels.label < 0)).sum()),
            majority_positives=int((by_majority == 1).sum()),
            majority_ties=int(((counts.sum(axis=1) > 0) & (by_majority < 0)).sum()),
            differs_from_majority=int(((by_majority >= 0) & (labels.label != by_majority)).sum()),
            adjudicated=int((final >= 0).sum()),
            alt_test=(alt_tests or {}).get(name),
        )
        for i in np.flatnonzero(asked & (final < 0) & (labels.confidence < threshold)).tolist():
            sure = float(labels.confidence[i])
            present = None if not counts[i].sum() else sure if labels.label[i] == 1 else 1 - sure
            text = " | ".join(video_text(golden.uploads[i]).values())[:_SHOWN_TEXT]
            absent_votes, present_votes = map(int, counts[i])
            unsure = int(golden.unsure[i, column])
            video = golden.uploads[i].video_id
            doubts.append((sure, Doubt(video, name, _rounded(present), present_votes, absent_votes, unsure, text)))
    doubts.sort(key=lambda doubt: (doubt[0], doubt[1].video, doubt[1].attribute))
    to_adjudicate = [doubt for _, doubt in doubts]
    return GoldenReport(golden.split, len(golden.uploads), len(golden.raters), attributes, to_adjudicate)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
