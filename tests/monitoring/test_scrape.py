from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from monitoring.scrape import quantile, scrape, total


def test_counters_are_summed_by_label_and_quantiles_interpolated() -> None:
    registry = CollectorRegistry()
    calls = Counter("calls", "calls", ["kind", "outcome"], registry=registry)
    calls.labels("local", "ok").inc(3)
    calls.labels("local", "error").inc(2)
    calls.labels("gemini", "ok").inc(5)
    seconds = Histogram("seconds", "seconds", buckets=(1, 2, 4), registry=registry)
    for value in (0.5, 1.5, 1.5, 3.0):
        seconds.observe(value)
    Histogram("nothing", "nothing", registry=registry)
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        samples = scrape(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert total(samples, "calls_total") == 10
    assert total(samples, "calls_total", kind="local") == 5
    assert total(samples, "calls_total", kind="local", outcome="error") == 2
    assert quantile(samples, "seconds", 0.5) == 1.5
    assert quantile(samples, "seconds", 0.25) == 1.0
    assert quantile(samples, "seconds", 1.0) == 4.0
    assert quantile(samples, "nothing", 0.5) is None
    assert quantile(samples, "unknown", 0.5) is None
