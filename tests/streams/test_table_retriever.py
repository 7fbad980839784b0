"""What only retrieval from the tables has to do: indexes, a bound on memory, a store that does not answer."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import StoreUnavailable
from streams.crowd import Crowd, Watched
from streams.policy import CrowdSettings
from streams.retriever import Lane, Request
from streams.table_index import make_indexes
from streams.table_retriever import TableRetriever
from streams.table_search import TableSettings
from tests.fakes.engines import Engine
from tests.fakes.videos import DIM, NOW_MS, annotation, direction

NONE = np.zeros(0, np.int32)
ROWS = 12_000


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, np.ndarray]]:
    """Many videos, of which one in 2,000 is funny and every second calm; 200 of them came after the indexes."""
    engine = Engine("lancedb", tmp_path_factory.mktemp("store"), shards=1)
    vectors = np.random.default_rng(0).normal(size=(ROWS, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    videos = [
        annotation(f"v{i}", {"funny": i % 2_000 == 7, "calm": i % 2 == 0}, vector=vector, uploaded_at_ms=NOW_MS - i)
        for i, vector in enumerate(vectors)
    ]
    engine.add(*videos[: ROWS - 200])
    assert engine.store is not None
    made = [column for table in engine.store.tables.values() for column in make_indexes(table)]
    assert {"video_id", "label_funny", "certified_hostile"} <= set(made)
    engine.add(*videos[ROWS - 200 :])
    yield engine, vectors


def test_through_an_index_lanes_are_full_and_right_whatever_the_filter_leaves(indexed) -> None:
    engine, vectors = indexed
    query = vectors[5].astype(np.float32)
    seen = [f"v{i}" for i in range(0, 1_000, 2)]
    lanes = [Lane(6, "funny"), Lane(200, "calm"), Lane(300), Lane(50, newest=True)]
    [(_, found)] = engine.videos.search([Request(query, lanes, engine.videos.find(seen))], 0)
    [funny, calm, nearest, newest] = [engine.videos.video_ids(lane) for lane in found.lanes]
    order = [f"v{i}" for i in np.argsort(-(vectors @ query)) if f"v{i}" not in set(seen)]
    assert funny == [name for name in order if int(name[1:]) % 2_000 == 7]
    assert len(set(calm) & set([name for name in order if int(name[1:]) % 2 == 0][:200])) >= 198
    assert len(set(nearest) & set(order[:300])) >= 297
    assert newest == [f"v{i}" for i in range(1, 100, 2)]


def test_videos_that_came_after_the_indexes_are_found(indexed) -> None:
    engine, vectors = indexed
    [(_, found)] = engine.videos.search([Request(vectors[ROWS - 1].astype(np.float32), [Lane(1), Lane(1, "calm")])], 0)
    assert engine.videos.video_ids(found.rows.tolist())[0] == f"v{ROWS - 1}"


def test_only_the_index_of_vectors_is_made_again(indexed) -> None:
    engine, _ = indexed
    assert list(make_indexes(engine.store.tables[0])) == ["vector"]  # whose partitions follow the table's size


def test_what_is_held_is_bounded_and_the_crowd_keeps_its_videos(tmp_path: Path) -> None:
    engine = Engine("lancedb", tmp_path, settings=TableSettings(refresh_s=0.0, most_held=50))
    videos = engine.add(*(annotation(f"v{i}", {"calm": True}, vector=direction(i / 100)) for i in range(100)))
    crowd = Crowd(CrowdSettings())
    for name in ("v9", "v3"):
        videos.views([name])[0]
        crowd.learn([Watched(int(videos.find([name])[0]), np.ones(4, np.bool_), 1.0, NOW_MS, NONE)] * 3)
    assert videos.shed(crowd.rows) is None
    request = Request(direction(0.0).astype(np.float32), [Lane(80)])
    [(_, before)] = videos.search([request], 0)
    numbers = videos.shed(crowd.rows)
    assert numbers is not None
    crowd.renumber(numbers)
    assert isinstance(videos, TableRetriever)
    assert len(videos) == 2
    assert videos.video_ids(crowd.rows.tolist()) == ["v9", "v3"]
    watches, _ = crowd.impressions(videos.find(["v3"]))
    assert watches.tolist() == [3.0]
    assert videos.describe(crowd.rows).present[:, 0].all()
    [(_, after)] = videos.search([request], 0)
    assert videos.video_ids(after.rows.tolist())[:79] == [f"v{i}" for i in range(79)]
    assert len(before.rows) == len(after.rows) == 80


def test_a_store_that_does_not_answer_is_an_outage_and_no_empty_list(tmp_path: Path) -> None:
    engine = Engine("lancedb", tmp_path)
    videos = engine.add(annotation("v", {"calm": True}))
    for path in sorted(tmp_path.rglob("*.lance")):
        if path.is_file():
            path.unlink()
    with pytest.raises(StoreUnavailable):
        list(videos.search([Request(direction(0.0).astype(np.float32), [Lane(1)])], 0))
