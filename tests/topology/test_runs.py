"""The consuming piece through kills and rebalances, on a real broker."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from streams.record import Message
from tests.processes import Processes, wait_until
from topology.kafka import Committed, make_consumer
from topology.producer import ConfirmedProducer
from topology.settings import Settings, with_changes
from topology.topics import ANNOTATIONS, VIDEO_UPLOADS

WORKER = "tests/fakes/copy_worker.py"
RECORDS = 30_000


class Copies:
    """What the workers have copied so far, by value."""

    def __init__(self, settings: Settings) -> None:
        topic = settings.topic(ANNOTATIONS)
        self._consumer = make_consumer(settings, "copies")
        self._consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(settings.partitions)])
        self.seen: Counter[bytes] = Counter()

    def poll(self) -> int:
        for message in self._consumer.consume(5_000, timeout=0.05):
            self.seen[message.value() or b""] += 1
        return len(self.seen)

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def copies(settings: Settings):
    reader = Copies(settings)
    yield reader
    reader.close()


def produce(settings: Settings, start: int, count: int) -> None:
    producer = ConfirmedProducer(settings)
    values = [str(number).encode() for number in range(start, start + count)]
    producer.produce_now([Message(settings.topic(VIDEO_UPLOADS), value, value) for value in values])
    producer.close()


def committed(settings: Settings) -> int:
    worker = Committed(settings, "annotate", VIDEO_UPLOADS)
    count = worker.count()
    worker.close()
    return count


def everything(copies: Copies, records: int) -> Callable[[], bool]:
    return lambda: copies.poll() == records


def test_a_worker_that_is_killed_again_and_again_loses_nothing(
    settings: Settings, processes: Processes, copies: Copies
) -> None:
    chance = random.Random(7)
    worker = processes.start(settings, WORKER)
    for start in range(0, RECORDS, RECORDS // 3):
        produce(settings, start, RECORDS // 3)
        enough = start + chance.randint(1, RECORDS // 3)
        wait_until(lambda enough=enough: copies.poll() >= enough, 60, f"{enough} copies")
        worker.kill()
        worker.wait()
        worker = processes.start(settings, WORKER)
    wait_until(everything(copies, RECORDS), 60, "all records copied")
    wait_until(lambda: committed(settings) == RECORDS, 15, "all offsets committed")


def test_workers_that_come_and_go_lose_nothing(settings: Settings, processes: Processes, copies: Copies) -> None:
    first = processes.start(settings, WORKER)
    produce(settings, 0, RECORDS // 3)
    wait_until(lambda: copies.poll() > 100, 30, "the first worker copies")
    second = processes.start(settings, WORKER)
    produce(settings, RECORDS // 3, RECORDS // 3)
    processes.start(settings, WORKER)
    produce(settings, 2 * RECORDS // 3, RECORDS // 3)
    first.kill()
    wait_until(everything(copies, RECORDS), 90, "all records copied")
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    wait_until(lambda: committed(settings) == RECORDS, 30, "all offsets committed")


def test_partitions_with_a_backlog_take_turns(settings: Settings, processes: Processes, copies: Copies) -> None:
    producer = ConfirmedProducer(settings)
    topic = settings.topic(VIDEO_UPLOADS)
    backlog = [
        Message(topic, b"key", f"{partition}/{number}".encode(), partition=partition)
        for partition in range(settings.partitions)
        for number in range(RECORDS // settings.partitions)
    ]
    producer.produce_now(backlog)
    producer.close()
    processes.start(with_changes(settings, max_run=50), WORKER)
    wait_until(lambda: copies.poll() > 1_000, 60, "a part of the backlog is copied")

    first = Counter(value.split(b"/")[0] for value in list(copies.seen)[:1_000])
    assert len(first) == settings.partitions, first
    wait_until(everything(copies, len(backlog)), 60, "all records copied")


def test_after_sigterm_in_the_middle_the_next_worker_goes_on_where_it_ended(
    settings: Settings, processes: Processes, copies: Copies
) -> None:
    produce(settings, 0, RECORDS)
    worker = processes.start(settings, WORKER)
    wait_until(lambda: copies.poll() > 100, 30, "the worker copies")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    processes.start(settings, WORKER)
    wait_until(everything(copies, RECORDS), 60, "all records copied")
    wait_until(lambda: committed(settings) == RECORDS, 15, "all offsets committed")
    assert set(copies.seen.values()) == {1}, "the first worker finished and committed what it had in hand"


def test_a_second_sigterm_ends_a_worker_that_can_not_finish_and_its_records_come_again(
    settings: Settings, processes: Processes, copies: Copies, tmp_path: Path
) -> None:
    produce(settings, 0, 100)
    log = tmp_path / "log"
    patient = with_changes(settings, drain_s=300)
    worker = processes.start(patient, WORKER, "stuck", log=log)
    reader = Committed(settings, "annotate", VIDEO_UPLOADS)
    wait_until(lambda: "in hand for ever" in log.read_text(), 30, "the worker has its run in hand")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: "finishing what is in hand" in log.read_text(), 10, "the first signal is noticed")
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == -signal.SIGTERM
    assert reader.count() == 0
    reader.close()
    processes.start(settings, WORKER)
    wait_until(everything(copies, 100), 60, "all records copied")


def test_records_that_come_one_by_one_are_taken_together_within_the_interval(
    settings: Settings, processes: Processes, copies: Copies
) -> None:
    processes.start(with_changes(settings, run_interval_s=2), WORKER, "runs")
    produce(settings, 0, 1)
    wait_until(lambda: copies.poll() == 1, 60, "the worker copies")
    for number in range(1, 21):
        time.sleep(0.05)
        produce(settings, number, 1)

    def taken() -> int:
        copies.poll()
        return sum(1 + int(value.split()[2]) for value in copies.seen)

    wait_until(lambda: taken() == 21, 60, "all records are taken")
    assert len(copies.seen) <= 11, copies.seen


def test_after_a_full_run_the_interval_is_not_waited_for(
    settings: Settings, processes: Processes, copies: Copies
) -> None:
    produce(settings, 0, 100)
    processes.start(with_changes(settings, run_interval_s=10, max_run=1), WORKER)
    wait_until(everything(copies, 100), 60, "all records copied")
