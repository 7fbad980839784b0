import asyncio
import threading
from collections.abc import AsyncIterator
from shutil import rmtree

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY

from schemas.annotation import Annotation, AnnotatorVersion, AttributeScore, StudentVersion
from schemas.dead_letter import DeadLetter
from schemas.errors import StoreUnavailable
from schemas.wire import Decoder, encode
from streams.attribute_store import AttributeStore
from streams.attribute_table import AttributeTable
from streams.database import Database
from streams.record import Record
from streams.store import StoreStage
from tests.fakes.attributes import catalogue

DIM = 8
T0 = 1_800_000_000_000
CATALOGUE = catalogue("funny")
LLM = AnnotatorVersion("gemini", "flash", "rubric", 1, "abc")


def annotation(video_id="v1", status="final", at=T0, *, by=None, attribute="funny", dim=DIM) -> Annotation:
    return Annotation(
        schema_version=1,
        video_id=video_id,
        status=status,
        received_at_ms=at,
        annotated_at_ms=at,
        attributes={attribute: AttributeScore(0.5, "accept", True, "student")},
        embedding=np.ones(dim, "<f2").tobytes(),
        student=StudentVersion("vibe", 1),
        annotator=by,
    )


def record(event: Annotation, offset: int = 0, key: bytes | None = None) -> Record:
    return Record("annotations", 0, offset, T0, event.video_id.encode() if key is None else key, encode(event))


class WatchedTable(AttributeTable):
    """The real table; remembers its compactions and threads, and fails the compactions it is told to."""

    compactions = 0
    failing = 0

    def upsert(self, rows):
        self.thread = threading.current_thread()
        return super().upsert(rows)

    def compact(self):
        self.compactions += 1
        if self.compactions <= self.failing:
            raise StoreUnavailable("no space left")
        super().compact()


@pytest.fixture
def table(tmp_path) -> WatchedTable:
    return WatchedTable.open(Database(str(tmp_path)), CATALOGUE, DIM)


@pytest.fixture
async def stage(table) -> AsyncIterator[StoreStage]:
    stage = StoreStage(AttributeStore({0: table}, 1, CATALOGUE, DIM), "dead-letters", compact_every=5)
    yield stage
    await stage.close()


def stored(table: AttributeTable | AttributeStore) -> dict[str, str]:
    return {row["video_id"]: row["status"] for batch in table.read() for row in batch.to_pylist()}


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_annotations_become_rows_and_nothing_else(stage, table):
    effects = await stage.run([record(annotation("v1")), record(annotation("v2", "provisional"))])

    assert stored(table) == {"v1": "final", "v2": "provisional"}
    assert (effects.messages, effects.changelog, effects.refused) == ([], (), [])


async def test_a_first_annotation_becomes_visible_when_its_upload_was_received(stage):
    effects = await stage.run(
        [
            record(annotation("v1", "provisional", at=T0 + 1)),
            record(msgspec.structs.replace(annotation("v1", "provisional", at=T0 + 1), guarantee=False)),
            record(annotation("v1", "final", at=T0 + 1, by=LLM)),
            record(annotation("v2", "final", at=T0 + 2)),
            record(annotation("v3", "removed", at=T0 + 3)),
        ]
    )

    assert effects.visible_ms == [T0 + 1, T0 + 2]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record(annotation("v1"), key=b"v2"), "key 'v2' of an annotation of video 'v1'"),
        (record(annotation("v1"), key=b""), "has no key"),
        (Record("annotations", 0, 7, T0, b"v1", None), "no value"),
        (record(annotation("v1", attribute="tasty")), "tasty"),
        (record(annotation("v1", dim=DIM + 1)), "embedding of 18 bytes"),
    ],
)
async def test_an_impossible_record_is_refused_and_the_others_are_stored(stage, table, bad, reason):
    effects = await stage.run([record(annotation("before")), bad, record(annotation("after"))])

    assert set(stored(table)) == {"before", "after"}
    [(refused, error)] = effects.refused
    assert (refused, error.kind) == (bad, "impossible")
    [message] = effects.messages
    letter = Decoder(DeadLetter).decode(message.value)
    assert (message.topic, letter.stage, letter.payload) == ("dead-letters", "store", bad.value)
    assert reason in letter.message


async def test_an_attribute_that_was_retired_is_left_out_of_the_row(tmp_path):
    retired = msgspec.structs.replace(CATALOGUE, retired=("tasty",))
    store = AttributeStore.open(Database(str(tmp_path)), retired, DIM)
    stage = StoreStage(store, "dead-letters")
    effects = await stage.run([record(annotation("v1", attribute="tasty"))])

    assert (effects.refused, stored(store)) == ([], {"v1": "final"})
    assert not any("tasty" in name for batch in store.read() for name in batch.schema.names)
    await stage.close()


async def test_a_run_of_bad_records_alone_writes_nothing(stage, table):
    effects = await stage.run([Record("annotations", 0, 1, T0, b"v1", b"{")])

    assert [error.kind for _, error in effects.refused] == ["undecodable"]
    assert table.rows().rows == 0


async def test_a_replay_changes_no_rows(stage, table):
    records = [record(annotation("v1")), record(annotation("v1")), record(annotation("v2"))]
    before = sample("vibestream_stored_rows_total")

    await stage.run(records)
    await stage.run(records)

    assert sample("vibestream_stored_rows_total") - before == 2
    assert table.rows().rows == 2


async def test_the_table_is_written_off_the_event_loop(stage, table):
    await stage.run([record(annotation())])

    assert table.thread is not threading.current_thread()


async def test_fragments_stay_bounded_over_many_runs(stage, table):
    for i in range(23):
        await stage.run([record(annotation(f"v{i}"))])

    assert table.compactions == 4
    assert table.size().fragments <= 6
    assert table.rows().videos == 23


async def test_the_size_of_the_last_write_is_shown_although_not_every_write_is_measured(stage, table):
    for i in range(3):
        await stage.run([record(annotation(f"v{i}"))])

    async with asyncio.timeout(10):
        while sample("vibestream_store_rows", table="attributes") != 3:
            await asyncio.sleep(0.02)
    assert sample("vibestream_store_fragments", table="attributes") == table.size().fragments


async def test_a_failed_compaction_is_raised_once_and_the_store_goes_on(stage, table):
    table.failing = 1
    for i in range(5):
        await stage.run([record(annotation(f"v{i}"))])

    with pytest.raises(StoreUnavailable, match="no space left"):
        await stage.run([record(annotation("late"))])
    await stage.run([record(annotation("late"))])

    assert table.rows().videos == 6


async def test_a_lost_store_is_unavailable(stage, tmp_path):
    rmtree(tmp_path / "attributes.lance")

    with pytest.raises(StoreUnavailable):
        await stage.run([record(annotation())])


async def test_a_run_is_spread_over_the_shards_and_its_replay_changes_nothing(tmp_path):
    store = AttributeStore.open(Database(str(tmp_path)), CATALOGUE, DIM, 3)
    stage = StoreStage(store, "dead-letters")
    records = [record(annotation(f"v{i}")) for i in range(30)]
    before = sample("vibestream_stored_rows_total")

    await stage.run(records)
    await stage.run(records)
    await stage.close()

    assert store.rows() == (30, 30, 0)
    assert min(table.rows().rows for table in store.tables.values()) > 0
    assert sample("vibestream_stored_rows_total") - before == 30
    # the videos' and, as the replay moved it, the common row's
    assert [sample("vibestream_store_fragments", table=table.name) for table in store.tables.values()] == [2, 2, 2]


async def test_a_run_whose_one_shard_is_lost_is_unavailable_and_goes_through_when_it_is_back(tmp_path):
    store = AttributeStore.open(Database(str(tmp_path)), CATALOGUE, DIM, 2)
    stage = StoreStage(store, "dead-letters")
    records = [record(annotation(f"v{i}")) for i in range(20)]
    shard = tmp_path / "attributes-1-of-2.lance"
    shard.rename(tmp_path / "away")

    with pytest.raises(StoreUnavailable):
        await stage.run(records)
    (tmp_path / "away").rename(shard)
    await stage.run(records)
    await stage.close()

    assert store.rows() == (20, 20, 0)
