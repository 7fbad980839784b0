import re
from html.parser import HTMLParser

import numpy as np
import pytest

from models.evaluation import Answers, Effort, Truth, compare, evaluate
from models.report import Judged, html_report, precision_recall_curve

RNG = np.random.default_rng(0)
LABEL = (RNG.random((120, 2)) < 0.4).astype(np.int8)
TRUTH = Truth("the set", [f"v{i}" for i in range(120)], ("funny", "eerie"), LABEL, np.ones(LABEL.shape))
SCORES = np.clip(0.5 * LABEL + 0.5 * RNG.random(LABEL.shape), 0, 1)
STUDENT = Answers("student <1>", (SCORES > 0.5).astype(np.int8), SCORES, Effort(120, videos_per_cpu_s=900.0))
LLM = Answers("llm", LABEL, np.full(LABEL.shape, np.nan), Effort(120, latency_p95_ms=800.0, usd_per_1000=1.5))


class Page(HTMLParser):
    """Checks that every element is closed and gathers tags, addresses and text."""

    VOID = ("meta", "line", "circle", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page(truth: Truth = TRUTH, with_other: bool = True) -> tuple[Page, str]:
    judged, other = (Judged(one, evaluate(truth, one)) for one in (STUDENT, LLM))
    text = html_report(truth, judged, *((other, compare(truth, STUDENT, LLM)) if with_other else ()))
    return Page(text), text


@pytest.mark.parametrize("with_other", [True, False])
def test_the_page_is_whole_and_fetches_nothing(with_other: bool):
    found, text = page(with_other=with_other)
    assert found.addresses == []
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "$" not in re.sub(r"\$\d", "", text)


def test_names_are_shown_as_they_are_and_never_as_markup():
    found, text = page()
    assert "student <1>" in found.text
    assert "<1>" not in text


def test_every_attribute_has_a_row_and_both_curves_and_the_scores_are_there():
    found, _ = page()
    for name in ("funny", "eerie", "all attributes pooled"):
        assert f"Precision and recall: {name}" in found.text
        assert f"Reliability: {name}" in found.text
    score = evaluate(TRUTH, STUDENT)
    assert f"{score.macro_f1:.3f}" in found.text
    assert f"{score.attributes['eerie'].recall:.3f}" in found.text
    assert "US dollars per 1,000 videos" in found.text


def test_a_system_without_a_measured_cost_is_named():
    found, _ = page()
    assert "Not measured: llm" in found.text or "Not measured: student <1>" in found.text


def test_nothing_known_still_makes_a_page():
    label = np.full(LABEL.shape, -1, np.int8)
    found, _ = page(Truth("nothing", TRUTH.videos, TRUTH.attributes, label, TRUTH.weight), with_other=False)
    assert "funny" in found.text


def test_the_curve_passes_through_what_each_threshold_gives_and_equal_scores_fall_together():
    p = np.array([0.9, 0.8, 0.8, 0.3])
    curve = precision_recall_curve(p, np.array([True, False, True, True]), np.ones(4))
    np.testing.assert_allclose(curve, [[1 / 3, 1], [2 / 3, 2 / 3], [1, 3 / 4]])


def test_a_long_curve_is_thinned_and_keeps_its_end():
    p, y = RNG.random(5_000), RNG.random(5_000) < 0.2
    curve = precision_recall_curve(p, y, np.ones(5_000))
    assert len(curve) <= 80
    assert curve[-1] == pytest.approx([1.0, y.mean()], abs=0.01)
    assert (np.diff(curve[:, 0]) >= 0).all()
