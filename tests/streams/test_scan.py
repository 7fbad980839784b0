from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from schemas.user_state import Affinity, UserState, watched_ids
from streams.retrieve import RetrievalSettings, retrieve, retrieve_all
from streams.retriever import Lane, Request
from streams.snapshot import Snapshot
from tests.fakes.random_videos import ATTRIBUTES, WEIGHT, Videos
from tests.fakes.videos import CATALOGUE, NOW_MS, annotation, removal


def assert_best(rows: Sequence[int], scores: np.ndarray, k: int) -> None:
    best = np.sort(scores[np.isfinite(scores)])[::-1][:k]
    np.testing.assert_allclose(scores[rows], best, atol=5e-4)
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(("count", "dim"), [(6_000, 128), (3_000, 64), (1_000, 8), (1_000, 100), (63, 192), (1, 16)])
def test_every_lane_finds_the_best_of_what_may_be_served(count: int, dim: int):
    videos = Videos(count, dim, seed=count)
    oldest_ms = NOW_MS - 8_000
    seen = range(0, count, 7)
    allowed = ~videos.hostile & (videos.times >= oldest_ms) & ~np.isin(np.arange(count), seen)
    requests = [
        Request(
            vector=videos.direction(seed),
            lanes=[Lane(50), *(Lane(20, attribute) for attribute in ATTRIBUTES), Lane(30, newest=True)],
            seen=videos.snapshot.rows([f"v{i}" for i in seen]),
            languages=languages,
            probability_weight=WEIGHT,
        )
        for seed, languages in enumerate([None, ["pt"], ["en", "pt"]])
    ]
    for number, found in videos.snapshot.search(requests, oldest_ms):
        request, vector = requests[number], requests[number].vector
        assert vector is not None
        servable = allowed & videos.portuguese if request.languages == ["pt"] else allowed
        assert_best(found.lanes[0], videos.scores(vector, servable), 50)
        for attribute, hits in zip(ATTRIBUTES, found.lanes[1:4], strict=True):
            assert_best(hits, videos.scores(vector, servable, attribute), 20)
        latest = sorted(np.flatnonzero(servable).tolist(), key=lambda row: (videos.times[row], row), reverse=True)
        assert found.lanes[4] == latest[:30]


def test_without_a_vector_a_lane_is_ordered_by_p():
    videos = Videos(2_000, 16, seed=1)
    [(_, found)] = videos.snapshot.search([Request(None, [Lane(20, "calm")], probability_weight=WEIGHT)], 0)
    assert_best(found.lanes[0], videos.scores(np.zeros(16, np.float32), ~videos.hostile, "calm"), 20)


def test_requests_are_answered_as_if_one_by_one():
    videos = Videos(5_000, 64, seed=2)
    requests = [
        Request(
            videos.direction(i),
            [Lane(30), Lane(10, "funny"), Lane(10, "calm")],
            seen=videos.snapshot.rows([f"v{i}"]),
        )
        for i in range(9)
    ]
    for number, together in videos.snapshot.search(requests, 0):
        [(_, alone)] = videos.snapshot.search([requests[number]], 0)
        assert (together.lanes, together.removed) == (alone.lanes, alone.removed)


def test_a_video_that_gets_an_attribute_is_in_its_lane_and_one_that_loses_it_is_not():
    videos = Videos(3_000, 64, seed=5)
    request = Request(videos.direction(0), [Lane(20, "calm"), Lane(20, "funny")], probability_weight=WEIGHT)
    [(_, before)] = videos.snapshot.search([request], 0)
    lost = before.lanes[0][0]
    gained = next(row for row in range(3_000) if row not in before.rows.tolist() and not videos.hostile[row])
    videos.snapshot.apply(
        [
            annotation(f"v{lost}", {"calm": False}, vector=videos.direction(0), student=9),
            annotation(f"v{gained}", {"calm": True}, vector=videos.direction(0), student=9),
        ]
    )
    [(_, after)] = videos.snapshot.search([request], 0)
    assert after.lanes[0][0] == gained
    assert lost not in after.lanes[0]


def test_what_is_removed_or_changed_is_so_for_the_next_search():
    videos = Videos(500, 16, seed=3)
    request = Request(videos.direction(0), [Lane(500)])
    [(_, before)] = videos.snapshot.search([request], 0)
    first, second = before.lanes[0][:2]
    videos.snapshot.apply([removal(f"v{first}"), annotation(f"v{second}", vector=-videos.direction(0), student=9)])
    videos.snapshot.apply([annotation("new", vector=videos.direction(0))])
    [(_, after)] = videos.snapshot.search([request], 0)
    assert after.lanes[0][0] == 500
    assert after.lanes[0][-1] == second
    assert set(after.lanes[0]) == set(before.lanes[0]) - {first} | {500}


@settings(deadline=None)
@given(st.data())
def test_rows_stay_in_the_order_of_time_however_annotations_come(data: st.DataObject):
    snapshot = Snapshot(CATALOGUE, 8)
    times: dict[str, tuple[int, int]] = {}
    for _ in range(data.draw(st.integers(1, 8))):
        batch = []
        for _ in range(data.draw(st.integers(1, 6))):
            video_id = f"v{data.draw(st.integers(0, 9))}"
            at, student = NOW_MS - data.draw(st.integers(0, 5)), data.draw(st.integers(1, 3))
            batch.append(annotation(video_id, uploaded_at_ms=at, student=student))
            times[video_id] = max(times.get(video_id, (0, 0)), (at, student))
        snapshot.apply(batch)
    oldest_ms = NOW_MS - data.draw(st.integers(0, 5))
    [(_, found)] = snapshot.search([Request(None, [Lane(20, newest=True)])], oldest_ms)
    latest = {video_id: at for video_id, (at, _) in times.items() if at >= oldest_ms}
    served = snapshot.video_ids(found.lanes[0])
    assert sorted(served) == sorted(latest)
    assert [latest[video_id] for video_id in served] == sorted(latest.values(), reverse=True)
    assert found.removed.get("too_old", 0) == len(times) - len(latest)


def test_an_attribute_or_a_vector_that_does_not_fit_is_refused():
    snapshot = Videos(10, 16, seed=4).snapshot
    with pytest.raises(ConfigurationError, match="'sad'"):
        list(snapshot.search([Request(None, [Lane(1, "sad")])], 0))
    with pytest.raises(ConfigurationError, match="16"):
        list(snapshot.search([Request(np.ones(8, np.float32), [Lane(1)])], 0))


def test_lists_of_one_run_are_those_of_single_lists():
    videos = Videos(4_000, 32, seed=5)
    states = [
        UserState(
            schema_version=1, applied=0, user_id="u", updated_at_ms=NOW_MS, session_id="s", watches_since_list=0,
            affinities={a: Affinity(30.0, 10.0 + i, 1.0, 0.5) for a in ATTRIBUTES},
            taste=videos.direction(i).astype("<f2").tobytes(), taste_weight=1.0,
            watched=watched_ids((f"v{i}", f"v{i + 1}")),
        )
        for i in range(6)
    ]  # fmt: skip
    chosen = RetrievalSettings()
    together = retrieve_all(videos.snapshot, [(state, Random(1)) for state in states], chosen, NOW_MS)
    assert dict(together) == dict(
        enumerate(retrieve(videos.snapshot, state, chosen, NOW_MS, Random(1)) for state in states)
    )
