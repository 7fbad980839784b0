import pytest
from prometheus_client import CollectorRegistry

from monitoring.series import Counter, Histogram


def test_values_by_place_and_by_name_are_of_one_series() -> None:
    registry = CollectorRegistry()
    counter = Counter("taken", "Taken", ["stage", "topic"], registry=registry)
    counter.labels("store", "annotations").inc()
    counter.labels("store", "annotations").inc()
    counter.labels(topic="annotations", stage="store").inc()
    counter.labels("store", "other").inc()
    assert registry.get_sample_value("taken_total", {"stage": "store", "topic": "annotations"}) == 3
    assert registry.get_sample_value("taken_total", {"stage": "store", "topic": "other"}) == 1


def test_series_of_a_histogram_have_its_buckets() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("wait_seconds", "Wait", ["stage"], buckets=(1, 2), registry=registry)
    histogram.labels("store").observe(1.5)
    assert registry.get_sample_value("wait_seconds_bucket", {"stage": "store", "le": "2.0"}) == 1
    assert registry.get_sample_value("wait_seconds_bucket", {"stage": "store", "le": "1.0"}) == 0


def test_too_few_label_values_are_an_error_each_time() -> None:
    counter = Counter("taken", "Taken", ["stage", "topic"], registry=CollectorRegistry())
    for _ in range(2):
        with pytest.raises(ValueError, match="label count"):
            counter.labels("store")
