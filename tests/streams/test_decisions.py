from collections import Counter

import numpy as np
import pytest
from prometheus_client import REGISTRY

from models.bundle import default_bundle
from models.cascade import decide
from models.student import Student
from schemas.annotation import Annotation, AnnotatorVersion, AttributeScore, Source
from streams.decisions import count_decisions, count_verdicts, note_student


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture(scope="module")
def student():
    made = Student.load(default_bundle())
    yield made
    made.close()


def test_decisions_are_counted_as_bands_decide_them(student: Student) -> None:
    probability = np.random.default_rng(3).random((200, len(student.ids)), np.float32)
    probability[0] = [student.bands[name].lo for name in student.ids]
    probability[1] = [student.bands[name].hi for name in student.ids]
    expected = Counter(
        (name, score.band) for row in probability for name, score in decide(row, student.bands, student.ids).items()
    )
    before = {
        labels: value("vibestream_student_decisions_total", attribute=labels[0], band=labels[1]) for labels in expected
    }

    count_decisions(student, probability)

    for (attribute, band), count in expected.items():
        grown = value("vibestream_student_decisions_total", attribute=attribute, band=band) - before[attribute, band]
        assert grown == count, (attribute, band)


def test_what_drift_is_held_against_is_the_bundles_measurement(student: Student) -> None:
    note_student(student)
    for attribute in student.ids:
        shares = [
            value("vibestream_student_band_reference_ratio", attribute=attribute, band=band)
            for band in ("accept", "reject", "uncertain")
        ]
        assert sum(shares) == pytest.approx(1) and min(shares) >= 0
        assert value("vibestream_student_certified", attribute=attribute) == (attribute in student.certified)


def annotation(**scores: AttributeScore) -> Annotation:
    return Annotation(
        schema_version=1,
        video_id="v",
        status="final",
        received_at_ms=1,
        annotated_at_ms=2,
        attributes=scores,
        annotator=AnnotatorVersion(kind="gemini", model="m", prompt="p", prompt_version=1, prompt_hash="h"),
    )


def test_verdicts_tell_agreement_and_what_was_predicted_of_those_asked_about() -> None:
    def score(p: float, label: bool | None, source: Source = "llm") -> AttributeScore:
        return AttributeScore(p=p, band="uncertain", label=label, source=source)

    names = ("test-a", "test-b", "test-c", "test-d")
    first = annotation(**{"test-a": score(0.7, True), "test-b": score(0.7, False), "test-c": score(0.2, None)})
    second = annotation(**{"test-a": score(0.4, False), "test-d": score(0.4, True, "student")})
    count_verdicts([(names[:3], first), (("test-a", "test-d"), second)])

    assert value("vibestream_review_verdicts_total", attribute="test-a", verdict="agreed") == 2
    assert value("vibestream_review_verdicts_total", attribute="test-b", verdict="overturned") == 1
    assert value("vibestream_review_verdicts_total", attribute="test-c", verdict="unclear") == 1
    assert value("vibestream_review_verdicts_total", attribute="test-d", verdict="agreed") == 0
    assert value("vibestream_review_predicted_total", attribute="test-a") == pytest.approx(1.1)
    assert value("vibestream_review_present_total", attribute="test-a") == 1
    assert value("vibestream_review_present_total", attribute="test-b") == 0
