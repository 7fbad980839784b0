"""Watch events to candidate lists: a session worker process and a real broker; one line of JSON.

The catalogue is a LanceDB table of random unit vectors, where every attribute that is no policy is present in 5 % of
the videos. First as many watches as the worker takes: watch_per_s is from its committed offsets, after a warm-up. Then
half as many, evenly: p50 and p99 are from the moment when a watch is handed to the producer until its list is in the
hands of a consumer. Of the 20 watches of a session 7 are due for a list; 400 sessions go on at once, and when one ends
another user's begins. All users have watched 500 videos before, so their states are as large as they get. This process,
which produces, consumes and counts, shares the cores with worker and broker. That is Apache Kafka: the embedded broker
lets a fetch wait up to 10 ms, and ever longer as it runs.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import lancedb
import numpy as np
import pyarrow as pa
from confluent_kafka import Producer, TopicPartition

from monitoring.scrape import scrape, total
from schemas.attributes import load_catalogue
from schemas.candidates import SessionCandidates
from schemas.events import WatchEvent
from schemas.table import attribute_schema
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.shards import table_names
from tests.benchmarks.brokers import add_broker_option, broker
from tests.benchmarks.states import full_state, views, write_states
from tests.benchmarks.usage import cpu_s
from tests.processes import Processes, wait_until
from topology.attribute_store import open_table
from topology.broker import free_port
from topology.bundle import student_dim
from topology.kafka import Committed, client_config, make_consumer, partitions_of
from topology.producer import ConfirmedProducer
from topology.settings import Settings, with_changes
from topology.topics import SESSION_CANDIDATES, WATCH_EVENTS, ensure_topics

_BATCH = 50_000
_PRESENT = 0.05
_LANGUAGES = ("en", "es", "pt")
_DAY_MS = 86_400_000
_USERS = 8_000
_SESSION = 20
_AT_ONCE = 400
_AHEAD = 4_000
_TICK_S = 0.005
_START_S = 600.0
_DRAIN_S = 300.0


def videos(count: int, dim: int) -> Iterator[pa.RecordBatch]:
    """Rows of the attribute table, all of them servable, uploaded within the last 60 days."""
    catalogue, rng, now = load_catalogue(), np.random.default_rng(1), now_ms()
    schema = attribute_schema(catalogue, dim)
    for start in range(0, count, _BATCH):
        n = min(_BATCH, count - start)
        vectors = rng.standard_normal((n, dim), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        times = now - rng.integers(60 * _DAY_MS, size=n)
        columns = {
            "video_id": [f"v{row:010d}" for row in range(start, start + n)],
            "seq": times << 21,
            "status": ["final"] * n,
            "creator_id": [f"creator{number}" for number in rng.integers(count // 10 + 1, size=n)],
            "language": rng.choice(_LANGUAGES, n),
            "uploaded_at_ms": times,
            "received_at_ms": times,
            "stored_at_ms": times,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), dim),
        }
        for attribute in catalogue.ids:
            share = 0.0 if attribute in catalogue.policy_ids else _PRESENT
            columns[f"p_{attribute}"] = rng.random(n).astype(np.float32)
            columns[f"label_{attribute}"] = rng.random(n) < share
            columns[f"certified_{attribute}"] = np.ones(n, np.bool_)
        yield pa.RecordBatch.from_arrays(
            [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(n, f.type) for f in schema],
            schema=schema,
        )


def write_table(settings: Settings, count: int) -> None:
    dim = student_dim(settings)
    open_table(settings, load_catalogue())
    [name] = table_names(settings.store_shards)
    table = lancedb.connect(settings.store_uri).open_table(name)
    for batch in videos(count, dim):
        table.add(pa.Table.from_batches([batch]))
        print(f"{table.count_rows()} videos written", end="\r", file=sys.stderr)
    print(file=sys.stderr)


class Viewers:
    """Produces watches of random videos, each in one of the sessions that go on."""

    def __init__(self, settings: Settings, videos: int) -> None:
        self._rng = np.random.default_rng(2)
        self._videos = videos
        self._topic = settings.topic(WATCH_EVENTS)
        self._partitions = settings.partitions
        self._open = list(range(_AT_ONCE))  # numbers of the sessions that go on
        self._watched = self._rng.integers(_SESSION, size=_AT_ONCE).tolist()  # in each so far
        self._sessions = _AT_ONCE
        self._producer = Producer(
            client_config(
                settings, enable_idempotence=True, acks="all", linger_ms=5, queue_buffering_max_messages=100_000
            )
        )
        self.sent_ms: list[float] = []

    def send(self, count: int) -> None:
        """Hand so many watches to the producer."""
        places = self._rng.integers(_AT_ONCE, size=count).tolist()
        seen = self._rng.integers(self._videos, size=count).tolist()
        plays = self._rng.integers(500, 20_000, size=count).tolist()
        for place, video, played in zip(places, seen, plays, strict=True):
            turn, user = divmod(self._open[place], _USERS)
            event = WatchEvent(
                schema_version=1,
                event_id=str(len(self.sent_ms)),
                user_id=f"user-{user:07d}",
                session_id=f"session-{user}-{turn}",
                video_id=f"v{video:010d}",
                watched_at_ms=now_ms(),
                watch_ms=played,
                duration_ms=20_000,
            )
            self._watched[place] += 1
            if self._watched[place] == _SESSION:
                self._open[place], self._watched[place] = self._sessions, 0
                self._sessions += 1
            self.sent_ms.append(time.time() * 1000)
            self._producer.produce(self._topic, encode(event), event.user_id, partition=user % self._partitions)
        self._producer.poll(0)

    def flush(self) -> None:
        self._producer.flush(60)


def flood(viewers: Viewers, committed: Committed, workers: Sequence[int], warm_up_s: float, window_s: float) -> float:
    """Keep the workers busy; return the watches a second that they committed, from one commit to another."""
    commits: list[tuple[float, int, float]] = []
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < warm_up_s + window_s:
        done = committed.count()
        if elapsed >= warm_up_s and (not commits or commits[-1][1] != done):
            commits.append((time.monotonic(), done, sum(map(cpu_s, workers))))
        missing = done + _AHEAD - len(viewers.sent_ms)
        if missing > 0:
            viewers.send(missing)
        time.sleep(0.02)
    viewers.flush()
    assert len(commits) > 2, f"{len(commits)} commits in {window_s} s: {commits}"
    # The first entry is no edge: it was seen at some time after its commit.
    (first_s, first, first_cpu), (last_s, last, last_cpu) = commits[1], commits[-1]
    rate, used = (last - first) / (last_s - first_s), last_cpu - first_cpu
    print(
        f"flood: {rate:.0f} watches/s; {len(workers)} workers used {used / (last_s - first_s):.2f} cores,"
        f" {1000 * used / (last - first):.2f} ms of CPU a watch; load {os.getloadavg()[0]:.1f}",
        file=sys.stderr,
    )
    return rate


class Reader:
    """Notes when the lists that were caused from a certain watch on arrive."""

    def __init__(self, settings: Settings, first_event: int) -> None:
        self._first = first_event
        self._decoder = Decoder(SessionCandidates)
        self._stopped = Event()
        self.arrived_ms: dict[int, float] = {}
        self.sizes: list[int] = []
        topic = settings.topic(SESSION_CANDIDATES)
        self._consumer = make_consumer(settings, "bench")
        self._consumer.assign(
            [
                TopicPartition(topic, p, self._consumer.get_watermark_offsets(TopicPartition(topic, p))[1])
                for p in partitions_of(self._consumer, settings, topic)
            ]
        )
        self._thread = Thread(target=self._read)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._stopped.is_set():
            message = self._consumer.poll(0.1)  # of several at once it would wait for the last
            if message is None:
                continue
            now, value = time.time() * 1000, message.value() or b""
            event = int(self._decoder.decode(value).event_id)
            if event >= self._first:
                self.arrived_ms[event] = now
                self.sizes.append(len(value))


def steady(settings: Settings, viewers: Viewers, committed: Committed, rate: float, seconds: float) -> list[float]:
    """Send watches at a rate; return the milliseconds from each that was due for a list to that list."""
    viewers.send(int(rate))  # what the worker is given first after a pause is slow
    wait_until(lambda: committed.count() == len(viewers.sent_ms), _DRAIN_S, "all watches are committed")
    first = len(viewers.sent_ms)
    reader = Reader(settings, first)
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        due = first + int(rate * elapsed) - len(viewers.sent_ms)
        if due > 0:
            viewers.send(due)
        time.sleep(_TICK_S)
    viewers.flush()
    wait_until(lambda: committed.count() == len(viewers.sent_ms), _DRAIN_S, "all watches are committed")
    time.sleep(0.5)  # the last lists were acknowledged, and are on their way to the reader
    reader.stop()
    print(
        f"{len(viewers.sent_ms) - first} watches at {rate:.0f}/s, {len(reader.arrived_ms)} lists of"
        f" {np.mean(reader.sizes):.0f} bytes",
        file=sys.stderr,
    )
    return [at - viewers.sent_ms[event] for event, at in reader.arrived_ms.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--warm-up", type=float, default=10.0, help="seconds of the flood that don't count")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the flood, and of the steady stream")
    parser.add_argument(
        "--rate", type=float, default=0.0, help="of the steady stream; 0: half of what the flood reached"
    )
    parser.add_argument("--workers", type=int, default=1, help="session workers")
    add_broker_option(parser)
    parser.add_argument("--max-watch-run", type=int, default=Settings().max_watch_run)
    options = parser.parse_args()
    processes = Processes()
    with TemporaryDirectory() as folder, broker(options.broker) as running:
        settings = with_changes(
            Settings(), broker=running.url, store_uri=f"{folder}/lancedb", max_watch_run=options.max_watch_run
        )
        ensure_topics(settings)
        write_table(settings, options.videos)
        producer = ConfirmedProducer(settings)
        watched = [f"v{row:010d}" for row in np.random.default_rng(3).integers(options.videos, size=50_000)]
        write_states(settings, producer, _USERS, full_state(views(50)), watched)
        producer.close()
        log = Path(folder) / "session.log"
        ports = [free_port() for _ in range(options.workers)]
        workers = [
            processes.start(
                with_changes(settings, metrics_port=port), "-m", "topology.cli", "worker", "session", log=log
            )
            for port in ports
        ]

        def reads() -> bool:
            assert all(worker.poll() is None for worker in workers), log.read_text()[-3_000:]
            try:
                assigned = [total(scrape(port), "vibestream_assigned_partitions") for port in ports]
            except OSError:
                return False
            return sum(assigned) == settings.partitions and all(assigned)

        try:
            started = time.monotonic()
            wait_until(reads, _START_S, "the session workers read their partitions")
            print(f"session workers started in {time.monotonic() - started:.1f} s", file=sys.stderr)
            viewers, committed = Viewers(settings, options.videos), Committed(settings, "session", WATCH_EVENTS)
            rate = flood(viewers, committed, [one.pid for one in workers], options.warm_up, options.seconds)
            taken = steady(settings, viewers, committed, options.rate or rate / 2, options.seconds)
            rss = sum(total(scrape(port), "process_resident_memory_bytes") for port in ports)
            print(f"{rss / 2**20:.0f} MiB in all workers", file=sys.stderr)
            committed.close()
        finally:
            processes.stop_all()
            print("".join(log.read_text().splitlines(keepends=True)[-5:]), file=sys.stderr)
    result = {
        "watch_per_s": round(rate),
        "p50_ms": round(float(np.quantile(taken, 0.5)), 1),
        "p99_ms": round(float(np.quantile(taken, 0.99)), 1),
        "videos": options.videos,
        "workers": options.workers,
        "broker": options.broker,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
