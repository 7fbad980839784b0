import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics

from monitoring.item_histogram import ItemHistogram

BUCKETS = (0.1, 1, 5)


def test_it_exposes_what_a_histogram_of_prometheus_client_does() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = ItemHistogram("wait_seconds", "Wait", ["stage"], buckets=BUCKETS, registry=ours)
    other = Histogram("wait_seconds", "Wait", ["stage"], buckets=BUCKETS, registry=theirs)
    values = [0.1, 0.05, 1.0, 2.0, 9.0]
    one.observe_all(values[:2], "store")
    one.observe_all(values[2:], "store")
    one.observe_all([], "session")
    for value in values:
        other.labels("store").observe(value)
    other.labels("session")
    for encode in (generate_latest, open_metrics):
        lines = [line for line in encode(theirs).decode().splitlines() if "_created" not in line]
        assert sorted(encode(ours).decode().splitlines()) == sorted(lines)


def test_without_labels_it_is_there_before_the_first_value() -> None:
    registry = CollectorRegistry()
    ItemHistogram("wait_seconds", "Wait", buckets=BUCKETS, registry=registry)
    assert registry.get_sample_value("wait_seconds_count") == 0


def test_a_missing_label_is_an_error() -> None:
    histogram = ItemHistogram("wait_seconds", "Wait", ["stage"], buckets=BUCKETS, registry=CollectorRegistry())
    with pytest.raises(ValueError, match="stage"):
        histogram.observe_all([1.0])
