import numpy as np
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics

from monitoring.matrix_counter import MatrixCounter


def test_it_exposes_what_a_counter_of_prometheus_client_does() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = MatrixCounter("moves", "Moves", ("who", "where"), columns=("up", "down"), registry=ours)
    other = Counter("moves", "Moves", ["who", "where"], registry=theirs)
    one.add(("a", "b"), np.array([[1, 2], [3, 0]]))
    one.add(("a", "b"), np.array([[10, 0], [0, 0]]))
    one.add(("b", "c"), np.array([[5, 5], [1, 1]]))
    for labels, count in {"a up": 11, "a down": 2, "b up": 8, "b down": 5, "c up": 1, "c down": 1}.items():
        other.labels(*labels.split()).inc(count)
    for encode in (generate_latest, open_metrics):
        lines = [line for line in encode(theirs).decode().splitlines() if "_created" not in line]
        assert sorted(encode(ours).decode().splitlines()) == sorted(lines)
