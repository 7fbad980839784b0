"""Upload to searchable row, at steady rates: annotate and store workers and a broker; one line of JSON.

Uploads are sent at the rate whatever comes out (an open loop). What counts is the store worker's own histogram, from
the upload's time in the broker to the end of the merge that made its row visible, after a warm-up. Without --rates:
100, 1,000 and half of what `ours_with_store` of the ingest benchmark reaches. --seconds 600 --rates 3000 is the test
of ten minutes: every half minute it says what memory the workers take and how long a merge takes.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from monitoring.scrape import Sample, quantile, scrape, total
from tests.benchmarks.brokers import add_broker_option, broker
from tests.benchmarks.ingest import WITH_STORE, measure
from tests.benchmarks.uploads import sentences, upload_messages
from tests.benchmarks.usage import cpu_s, rss_mib
from tests.processes import Processes, wait_until
from topology.broker import free_port
from topology.kafka import client_config
from topology.settings import Settings, with_changes
from topology.topics import VIDEO_UPLOADS, ensure_topics

_FRESHNESS = "vibestream_upload_to_searchable_seconds"
_STAGE = "vibestream_stage_seconds"
_STORED = "vibestream_stored_rows_total"
_TICK_S = 0.01
_START_S = 60.0


def since(before: Sequence[Sample], now: Sequence[Sample], name: str) -> list[Sample]:
    """Return what a histogram has seen between two scrapes."""
    seen = Counter[tuple[str, str]]()
    for sign, page in ((-1, before), (1, now)):
        for one in page:
            if one.name.startswith(name) and one.labels.get("stage", "store") == "store":
                seen[one.name, one.labels.get("le", "")] += sign * one.value
    return [Sample(metric, {"le": le} if le else {}, value) for (metric, le), value in seen.items()]


class Steady:
    """Sends uploads at a rate."""

    def __init__(self, settings: Settings, texts: Sequence[str], rate: float, seconds: float) -> None:
        self._messages = upload_messages(settings.topic(VIDEO_UPLOADS), texts, int(rate * seconds) + 1)
        self._producer = Producer(client_config(settings, enable_idempotence=True, acks="all", linger_ms=5))
        self._rate = rate
        self._started = time.monotonic()
        self.sent = 0

    def send(self, until: float) -> None:
        """Send what is due until then."""
        while (now := time.monotonic()) < until:
            while self.sent < int(self._rate * (now - self._started)):
                message = next(self._messages)
                self._producer.produce(message.topic, message.value, message.key)
                self.sent += 1
            self._producer.poll(0)
            time.sleep(_TICK_S)


def measure_rate(
    rate: float, texts: Sequence[str], warm_up: float, seconds: float, every: float, broker_kind: str
) -> dict[str, float]:
    """Return p50 and p99 in milliseconds at a rate."""
    processes = Processes()
    with TemporaryDirectory() as folder, broker(broker_kind) as running:
        settings = with_changes(Settings(), broker=running.url, store_uri=f"{folder}/lancedb")
        ensure_topics(settings)
        ports, pids = {}, {"broker": running.pid}
        log = Path(folder) / "log"
        try:
            for role in ("annotate", "store"):
                ports[role] = free_port()
                worker = with_changes(settings, metrics_port=ports[role])
                pids[role] = processes.start(worker, "-m", "topology.cli", "worker", role, log=log).pid
            for role, port in ports.items():
                wait_until(lambda port=port: _partitions(port) == settings.partitions, _START_S, f"{role} reads")
            steady = Steady(settings, texts, rate, warm_up + seconds + 10)
            steady.send(time.monotonic() + warm_up)
            reports = Reports(rate, ports["store"], pids)
            end = time.monotonic() + seconds
            while (now := time.monotonic()) < end:
                steady.send(min(end, now + every))
                reports.add(steady.sent)
        except Exception as error:
            raise AssertionError(f"at {rate:.0f}/s: {error}; the log ends:\n{log.read_text()[-2_000:]}") from error
        finally:
            processes.stop_all()
    behind = steady.sent - total(reports.page, _STORED)
    if behind > 2 * rate + 1_000:
        print(f"at {rate:.0f}/s the workers end {behind:,.0f} uploads behind", file=sys.stderr)
    spent = since(reports.first, reports.page, _FRESHNESS)
    return {"p50_ms": _ms(spent, _FRESHNESS, 0.5), "p99_ms": _ms(spent, _FRESHNESS, 0.99)}


class Reports:
    """Says now and then what has happened since the last time."""

    def __init__(self, rate: float, port: int, pids: dict[str, int]) -> None:
        self._rate, self._port, self._pids = rate, port, pids
        self._began = self._last = time.monotonic()
        self.first = self.page = scrape(port)
        self._cpu = {role: cpu_s(pid) for role, pid in pids.items()}

    def add(self, sent: int) -> None:
        """Scrape the store worker and report."""
        before, self.page, now = self.page, scrape(self._port), time.monotonic()
        seconds, self._last = now - self._last, now
        runs, fresh = since(before, self.page, _STAGE), since(before, self.page, _FRESHNESS)
        rows = total(self.page, _STORED) - total(before, _STORED)
        count = total(runs, f"{_STAGE}_count") or 1
        mean_ms = 1000 * total(runs, f"{_STAGE}_sum") / count
        cpu, last = {role: cpu_s(pid) for role, pid in self._pids.items()}, self._cpu
        self._cpu = cpu
        print(
            f"{self._rate:.0f}/s, {now - self._began:.0f} s: {total(self.page, _STORED):,.0f} of {sent:,} stored,"
            f" {rows / seconds:,.0f}/s in runs of {rows / count:.0f}; a run takes {mean_ms:.0f} ms,"
            f" p99 {_ms(runs, _STAGE, 0.99)}; freshness p50 {_ms(fresh, _FRESHNESS, 0.5)},"
            f" p99 {_ms(fresh, _FRESHNESS, 0.99)}; {total(self.page, 'vibestream_store_fragments'):.0f} fragments; "
            + ", ".join(
                f"{role} {rss_mib(pid):.0f} MiB {(cpu[role] - last[role]) / seconds:.2f} cores"
                for role, pid in self._pids.items()
            ),
            file=sys.stderr,
        )


def _ms(samples: Sequence[Sample], histogram: str, q: float) -> int:
    return round(1000 * (quantile(samples, histogram, q) or 0.0))


def _partitions(port: int) -> float:
    try:
        return total(scrape(port), "vibestream_assigned_partitions")
    except OSError:
        return 0.0


def main() -> None:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--warm-up", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between reports")
    parser.add_argument("--real", type=Path, help="folder of goemotions_train.tsv.gz; without: the demo's texts")
    add_broker_option(parser)
    options = parser.parse_args()
    source, texts = sentences(options.real)
    rates = options.rates
    if not rates:
        most = measure(WITH_STORE, texts, 100_000, 20_000, 15.0, options.broker).rate
        print(f"most with the store: {most:,.0f} uploads/s", file=sys.stderr)
        rates = [100.0, 1_000.0, round(most / 2)]
    every = min(options.every, options.seconds)
    found = {
        f"{rate:.0f}": measure_rate(rate, texts, options.warm_up, options.seconds, every, options.broker)
        for rate in rates
    }
    machine = f"{options.broker}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    table = Table(title=f"upload to searchable ({source}), {machine}")
    for heading in ("uploads/s", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for rate, one in found.items():
        table.add_row(f"{int(rate):,}", f"{one['p50_ms']:.0f}", f"{one['p99_ms']:.0f}")
    Console(stderr=True, width=120).print(table)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
