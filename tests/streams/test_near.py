from dataclasses import replace

import numpy as np
import pytest

from streams.near import Changes
from streams.retriever import Lane, Request
from tests.fakes.random_videos import WEIGHT, Videos
from tests.fakes.videos import NOW_MS, annotation, removal

LANES = [Lane(30), Lane(10, "funny"), Lane(10, "calm"), Lane(5, newest=True)]


def same(videos: Videos, request: Request, oldest_ms: int = 0) -> bool:
    """Tell whether a user is found what nobody in particular is."""
    [(_, own)], [(_, plain)] = (
        videos.snapshot.search([one], oldest_ms) for one in (request, replace(request, user=""))
    )
    return (own.lanes, own.removed) == (plain.lanes, plain.removed)


def moved(vector: np.ndarray, towards: np.ndarray, share: float) -> np.ndarray:
    vector = (1 - share) * vector + share * towards
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.mark.parametrize("share", [0.0, 0.005, 0.03, 0.2, 1.0])
def test_what_is_found_is_the_same_however_far_a_taste_moves(share: float):
    videos = Videos(6_000, 64, seed=2)
    for user in range(5):
        vector = videos.direction(user)
        for turn in range(6):
            assert same(videos, Request(vector, LANES, probability_weight=WEIGHT, user=f"u{user}"))
            vector = moved(vector, videos.direction(100 * user + turn), share)


def test_what_was_seen_meanwhile_is_left_out_though_it_is_all_that_was_kept():
    videos = Videos(6_000, 64, seed=3)
    request = Request(videos.direction(0), LANES, probability_weight=WEIGHT, user="u")
    seen = np.empty(0, np.int32)
    for _ in range(12):
        assert same(videos, replace(request, seen=seen))
        [(_, found)] = videos.snapshot.search([replace(request, seen=seen)], 0)
        assert not set(found.rows.tolist()) & set(seen.tolist())
        seen = np.concatenate([seen, found.rows])


def test_annotations_and_removals_since_are_seen():
    videos = Videos(2_000, 64, seed=4)
    vector = videos.direction(0)
    request = Request(vector, LANES, probability_weight=WEIGHT, user="u")
    rng = np.random.default_rng(4)
    for turn in range(20):
        assert same(videos, request)
        [(_, found)] = videos.snapshot.search([request], 0)
        best = found.lanes[0]
        videos.snapshot.apply(
            [
                removal(f"v{best[0]}") if best[0] < 2_000 else removal(f"new{best[0] - 2_000}"),
                annotation(f"v{rng.integers(2_000)}", {"funny": bool(turn % 2)}, vector=vector, student=turn + 5),
                annotation(
                    f"new{turn}", {"calm": True, "funny": True}, vector=moved(vector, videos.direction(turn), 0.3)
                ),
            ]
        )
        request = replace(request, vector=moved(vector, videos.direction(50 + turn), 0.01))


def test_more_changes_than_are_remembered_are_seen_too():
    videos = Videos(2_000, 32, seed=5)
    request = Request(videos.direction(0), LANES, probability_weight=WEIGHT, user="u")
    assert same(videos, request)
    for student in (5, 6, 7):
        videos.snapshot.apply(
            [
                annotation(f"v{i}", {"funny": i % 3 == 0}, vector=videos.direction(i), student=student)
                for i in range(2_000)
            ]
        )
    assert same(videos, request)


def test_videos_that_were_too_old_before_come_back_with_a_later_bound_of_age():
    videos = Videos(2_000, 32, seed=6)
    request = Request(videos.direction(0), LANES, probability_weight=WEIGHT, user="u")
    assert same(videos, request, oldest_ms=NOW_MS - 2_000)
    assert same(videos, request, oldest_ms=0)
    assert same(videos, request, oldest_ms=NOW_MS - 5_000)


def test_the_languages_of_another_request_count_for_nothing():
    videos = Videos(2_000, 32, seed=7)
    request = Request(videos.direction(0), LANES, probability_weight=WEIGHT, user="u")
    for languages in (None, ("pt",), ("en", "pt"), None):
        assert same(videos, replace(request, languages=languages))


def test_users_who_share_a_search_and_come_twice_are_answered_as_if_alone():
    videos = Videos(5_000, 64, seed=8)
    requests = [Request(videos.direction(i % 3), LANES, probability_weight=WEIGHT, user=f"u{i % 3}") for i in range(7)]
    for _ in range(2):
        for number, together in videos.snapshot.search(requests, 0):
            [(_, alone)] = videos.snapshot.search([replace(requests[number], user="")], 0)
            assert together.lanes == alone.lanes


def test_users_who_are_known_are_answered_while_others_are_looked_for():
    videos = Videos(5_000, 64, seed=9)
    requests = [Request(videos.direction(i), LANES, probability_weight=WEIGHT, user=f"u{i}") for i in range(6)]
    list(videos.snapshot.search([requests[3], requests[5]], 0))
    far = replace(requests[5], vector=-requests[5].vector)
    requests = [far, *requests]
    found = dict(videos.snapshot.search(requests, 0))
    assert list(found) == [4, 0, 1, 2, 3, 5, 6], "both of user u5 come late, and in order"
    for number, together in found.items():
        [(_, alone)] = videos.snapshot.search([replace(requests[number], user="")], 0)
        assert together.lanes == alone.lanes


def test_a_search_that_is_left_early_is_over_when_the_next_begins():
    videos = Videos(5_000, 64, seed=10)
    known, other = (Request(videos.direction(i), LANES, probability_weight=WEIGHT, user=f"u{i}") for i in range(2))
    list(videos.snapshot.search([known], 0))
    left = videos.snapshot.search([known, other], 0)
    assert next(left)[0] == 0
    left.close()
    assert same(videos, other)


def test_changes_are_told_until_they_are_too_many():
    changes = Changes(most=4)
    changes.note(np.array([1, 2, 3], np.int32))
    assert changes.since(1) == pytest.approx([2, 3])
    changes.note(np.array([4, 5], np.int32))
    assert changes.since(1) == pytest.approx([2, 3, 4, 5])
    assert changes.since(0) is None
    changes.note(np.arange(100, dtype=np.int32))
    assert changes.since(101) == pytest.approx([96, 97, 98, 99])
    nothing = changes.since(changes.count)
    assert nothing is not None
    assert len(nothing) == 0
