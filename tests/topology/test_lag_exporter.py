import math
import signal
import time
from pathlib import Path

from confluent_kafka import TopicPartition

from monitoring.scrape import Sample, scrape, total
from streams.record import Message
from tests.processes import Processes, wait_until
from topology.broker import free_port
from topology.kafka import make_consumer
from topology.offsets import GroupPositions
from topology.producer import ConfirmedProducer
from topology.settings import ALL_ROLES, Settings, with_changes
from topology.topics import VIDEO_UPLOADS

COPY = str(Path(__file__).parents[1] / "fakes" / "copy_worker.py")
LAG, SECONDS = "vibestream_group_lag_records", "vibestream_group_lag_seconds"


def send(settings: Settings, producer: ConfirmedProducer, count: int) -> None:
    topic = settings.topic(VIDEO_UPLOADS)
    producer.produce_now([Message(topic, f"k{i}".encode(), b"v") for i in range(count)])


def test_positions_are_those_of_the_group_and_the_end_is_where_records_end(
    settings: Settings, producer: ConfirmedProducer
) -> None:
    topic, group = settings.topic(VIDEO_UPLOADS), settings.group("annotate")
    positions, consumer = GroupPositions(settings, group, topic), make_consumer(settings, group)
    try:
        assert {p.lag for p in positions.look().values()} == {0}
        before_ms = time.time() * 1000
        send(settings, producer, 400)
        seen = positions.look()
        assert sum(p.lag for p in seen.values()) == 400
        assert {p.committed for p in seen.values()} == {None}
        waiting = [p.oldest_ms for p in seen.values() if p.lag]
        assert all(ms is not None and before_ms - 1_000 <= ms <= time.time() * 1000 for ms in waiting)

        consumer.commit(
            offsets=[TopicPartition(topic, n, p.end - 1) for n, p in seen.items() if p.end], asynchronous=False
        )
        assert {p.lag for p in positions.look().values() if p.end} == {1}
        consumer.commit(offsets=[TopicPartition(topic, n, p.end) for n, p in seen.items()], asynchronous=False)
        assert {(p.lag, p.oldest_ms) for p in positions.look().values()} == {(0, None)}
        assert list(positions.look([1])) == [1]
    finally:
        positions.close()
        consumer.close()


def test_lag_is_right_while_a_worker_is_frozen_and_when_it_is_dead(
    settings: Settings, producer: ConfirmedProducer, processes: Processes, tmp_path: Path
) -> None:
    port = free_port()
    worker = processes.start(settings, COPY)
    processes.start(
        with_changes(settings, metrics_port=port), "-m", "topology.cli", "lag-exporter", "--every", "0.1",
        log=tmp_path / "lag.log",
    )  # fmt: skip
    own = {"group": settings.group("annotate"), "topic": settings.topic(VIDEO_UPLOADS)}

    def samples() -> list[Sample]:
        try:
            return scrape(port)
        except OSError:
            return []

    def lag() -> float:
        found = samples()
        return total(found, LAG, **own) if total(found, "vibestream_ready") else math.nan

    def oldest_s() -> float:
        return max(s.value for s in samples() if s.name == SECONDS and own.items() <= s.labels.items())

    send(settings, producer, 300)
    wait_until(
        lambda: lag() == 0 and total(samples(), "vibestream_group_committed_offset", **own) == 300, 60, "drained"
    )
    assert oldest_s() == 0

    worker.send_signal(signal.SIGSTOP)
    send(settings, producer, 200)
    wait_until(lambda: lag() == 200, 30, "the frozen worker's lag")
    first = oldest_s()
    wait_until(lambda: oldest_s() > first + 0.5, 30, "the oldest record's age grows")
    worker.send_signal(signal.SIGCONT)
    wait_until(lambda: lag() == 0, 150, "the worker caught up")

    worker.kill()
    worker.wait()
    send(settings, producer, 150)
    wait_until(lambda: lag() == 150, 30, "the dead worker's lag")
    assert total(samples(), "vibestream_group_expired_records_total", **own) == 0
    assert {s.labels["group"] for s in samples() if s.name == LAG} == {settings.group(role) for role in ALL_ROLES}
