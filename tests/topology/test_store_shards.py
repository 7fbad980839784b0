from pathlib import Path

import pytest

from schemas.annotation import Annotation
from schemas.attributes import load_catalogue
from schemas.errors import ConfigurationError
from schemas.wire import encode
from streams.record import Message
from streams.shards import shard_of
from tests.faults.workers import Workers
from tests.processes import wait_until
from topology.attribute_store import open_table
from topology.audit import audit
from topology.kafka import Committed, read_topic
from topology.producer import ConfirmedProducer
from topology.settings import Settings, with_changes
from topology.shards import check_divides, whole_shards
from topology.topics import ANNOTATIONS


def annotations(settings: Settings, count: int, at: int = 5) -> list[Message]:
    videos = [
        Annotation(schema_version=1, video_id=f"v{i}", status="final", received_at_ms=at, annotated_at_ms=at)
        for i in range(count)
    ]
    return [Message(settings.topic(ANNOTATIONS), video.video_id.encode(), encode(video)) for video in videos]


@pytest.mark.parametrize(
    ("workers", "partitions", "shards", "assigned"),
    [
        (["a", "b"], 4, 2, {"a": [0, 2], "b": [1, 3]}),
        (["a"], 4, 2, {"a": [0, 1, 2, 3]}),
        (["a", "b", "c"], 4, 2, {"a": [0, 2], "b": [1, 3], "c": []}),
        (["a", "b"], 6, 3, {"a": [0, 2, 3, 5], "b": [1, 4]}),
    ],
)
def test_workers_are_given_whole_shards(workers, partitions, shards, assigned) -> None:
    assert whole_shards(workers, partitions, shards) == assigned


def test_shards_that_do_not_divide_the_partitions_are_refused_with_those_that_do(settings: Settings) -> None:
    check_divides(with_changes(settings, store_shards=2))
    with pytest.raises(ConfigurationError, match=r"STORE_SHARDS=3 does not divide the 4 partitions .* 1, 2, 4$"):
        check_divides(with_changes(settings, store_shards=3))


def test_our_producer_sends_all_videos_of_a_shard_to_its_partitions(
    settings: Settings, producer: ConfirmedProducer
) -> None:
    producer.produce_now(annotations(settings, 200))

    records = list(read_topic(settings, ANNOTATIONS))
    assert len(records) == 200
    for shards in (2, 4):
        assert all(shard_of((r.key or b"").decode(), shards) == r.partition % shards for r in records)


def test_two_workers_write_a_shard_each_and_after_one_has_left_the_other_writes_both(
    pipeline: Settings, producer: ConfirmedProducer, tmp_path: Path
) -> None:
    settings = with_changes(pipeline, store_shards=2)
    workers, stored = Workers(settings, tmp_path), Committed(settings, "store", ANNOTATIONS)
    try:
        both = [workers.start("store"), workers.start("store")]
        wait_until(
            lambda: [workers.metric(each, "vibestream_assigned_partitions") for each in both] == [2, 2],
            60,
            "each worker has a shard's partitions",
        )
        messages = annotations(settings, 600)
        for start in range(0, 600, 100):
            producer.produce_now(messages[start : start + 100])
        wait_until(lambda: stored.count() == 600, 60, "all is stored")
        table = open_table(settings, load_catalogue())
        assert table.rows() == (600, 600, 0)
        written = {workers.metric(each, "vibestream_stored_rows_total") for each in both}
        assert written == {shard.rows().rows for shard in table.tables.values()}
        assert all(workers.metric(each, "vibestream_run_retries_total") == 0 for each in both)

        workers.end("store")
        producer.produce_now(annotations(settings, 700, at=6))
        wait_until(lambda: stored.count() == 1_300, 60, "the other worker takes over")
        assert table.rows() == (700, 700, 0)
        assert audit(settings, table).ok
    finally:
        workers.stop_all()
        stored.close()
