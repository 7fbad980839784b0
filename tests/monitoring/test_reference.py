from pathlib import Path

import pytest

from monitoring.reference import Described, described, document

COMMITTED = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_committed_page_is_the_generated_one() -> None:
    assert COMMITTED.read_text().strip() == document().strip(), "write it again: make metrics"


@pytest.mark.parametrize("metric", list(described()), ids=lambda metric: metric.name)
def test_names_and_units_are_those_of_prometheus(metric: Described) -> None:
    assert metric.name.startswith(("vibestream_", "gen_ai_client_"))
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not metric.name.endswith(("_ms", "_milliseconds", "_percent", "_minutes", "_kb"))
    if metric.kind == "histogram":
        assert metric.name.endswith(("_seconds", "_records", "_token_usage"))
    assert metric.documentation


@pytest.mark.parametrize("metric", list(described()), ids=lambda metric: metric.name)
def test_no_label_is_a_user_a_session_or_a_video(metric: Described) -> None:
    assert not {"user", "user_id", "session", "session_id", "video", "video_id", "creator", "id"} & set(metric.labels)


def test_metrics_are_many_and_named_once() -> None:
    names = [metric.name for metric in described()]
    assert len(names) == len(set(names)) > 60
