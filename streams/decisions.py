"""What the student and the LLM decide, in numbers: how often it asks, how often they disagree, how it drifts."""

import collections
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.student import Student
from monitoring import metrics
from schemas.annotation import Annotation


def note_student(student: Student) -> None:
    """Say what the student that serves now is held against."""
    for attribute in student.ids:
        metrics.CERTIFIED.labels(attribute).set(attribute in student.certified)
    for (attribute, band), share in student.reference.items():
        metrics.BAND_REFERENCE.labels(attribute, band).set(share)


def count_decisions(student: Student, probability: NDArray[np.float32]) -> None:
    """Count the bands of scores [videos, attributes], in the student's order."""
    metrics.DECISIONS.add(student.ids, student.verdicts.count(probability))


def count_verdicts(reviewed: Iterable[tuple[Sequence[str], Annotation]]) -> None:
    """Count what the LLM made of the attributes that it was asked about, for each annotation that it answered."""
    verdicts, present = collections.Counter[tuple[str, str]](), collections.Counter[str]()
    predicted: defaultdict[str, float] = defaultdict(float)
    unguaranteed = 0
    for attributes, annotation in reviewed:
        unguaranteed += annotation.guarantee is False
        for attribute in attributes:
            score = annotation.attributes[attribute]
            if score.source != "llm":
                continue
            if score.label is None:
                verdicts[attribute, "unclear"] += 1
                continue
            verdicts[attribute, "agreed" if score.label == (score.p >= 0.5) else "overturned"] += 1
            present[attribute] += score.label
            predicted[attribute] += score.p
    for labels, count in verdicts.items():
        metrics.VERDICTS.labels(*labels).inc(count)
    for attribute, expected in predicted.items():
        metrics.VERDICTS_PRESENT.labels(attribute).inc(present[attribute])
        metrics.VERDICTS_PREDICTED.labels(attribute).inc(expected)
    metrics.UNGUARANTEED.inc(unguaranteed)
