"""What a crowd remembers, and for how long."""

import numpy as np

from streams.crowd import Crowd, Watched
from streams.policy import CrowdSettings

DAY_MS = 86_400_000
NO_ATTRIBUTES = np.zeros(0, np.bool_)


def rows(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def watch(row: int, at_ms: int = 1, satisfied: float = 1.0, before: np.ndarray | None = None) -> Watched:
    return Watched(row, NO_ATTRIBUTES, satisfied, at_ms, rows() if before is None else before)


def test_an_empty_crowd_knows_no_impressions_and_ranks_nothing() -> None:
    crowd = Crowd(CrowdSettings())
    watches, satisfied = crowd.impressions(rows(0, 7))
    assert (watches.tolist(), satisfied.tolist()) == ([0, 0], [0, 0])
    assert len(crowd.rank(rows(3), 10, 1.0).best) == 0


def test_watches_fade_with_time() -> None:
    crowd = Crowd(CrowdSettings())
    crowd.learn([watch(5)])
    crowd.learn([watch(6, at_ms=30 * DAY_MS)])
    (old, new), _ = crowd.impressions(rows(5, 6))
    assert 0.0 <= old < new == 1.0


def test_a_full_crowd_forgets_the_least_watched() -> None:
    crowd = Crowd(CrowdSettings(most_videos=4))
    crowd.learn([watch(row) for row in (0, 0, 1, 1, 2, 3, 9)])
    assert len(crowd) <= 4
    watches, _ = crowd.impressions(rows(0, 1, 9))
    assert watches.tolist() == [2, 2, 1]


def test_what_a_full_crowd_keeps_is_known_by_what_was_watched_with_it_and_stayed() -> None:
    crowd = Crowd(CrowdSettings(most_videos=4, shrink=1.0))
    crowd.learn([watch(7)])
    crowd.learn([watch(5), watch(3, before=rows(7, 5)), watch(5, before=rows(3))] * 3)
    crowd.learn([watch(2)])
    crowd.learn([watch(9)])  # the crowd is full: 7 and 2 go
    ranking = crowd.rank(rows(5), 3, 5.0)
    (_, gone, gone_too, with_it), lifts = crowd.qualities(ranking, rows(9, 7, 2, 3))
    assert (gone, gone_too, ranking.best[0]) == (0.0, 0.0, 3)
    assert with_it > 0.0 < lifts[3]
    assert lifts[:3].tolist() == [0.0, 0.0, 0.0]


def test_what_was_watched_together_is_ranked_above_what_is_merely_popular() -> None:
    crowd = Crowd(CrowdSettings(shrink=1.0))
    for _ in range(5):
        crowd.learn([watch(1), watch(2, before=rows(1)), watch(8), watch(8)])
    assert crowd.rank(rows(1), 2, 5.0).best[0] == 2


def test_popularity_fades_sooner_than_what_was_watched_together() -> None:
    crowd = Crowd(CrowdSettings(shrink=1.0))
    crowd.learn([watch(1), watch(2, before=rows(1))] * 8)
    crowd.learn([watch(3, at_ms=4 * DAY_MS)] * 3)
    (older, newer), lifts = crowd.qualities(crowd.rank(rows(), 3, 1.0), rows(1, 3))
    assert newer > older > 0.0
    assert lifts.tolist() == [0.0, 0.0]
    assert crowd.rank(rows(1), 3, 2.0).best[0] == 2


def test_rows_that_get_other_numbers_keep_what_is_known_of_them() -> None:
    crowd = Crowd(CrowdSettings(shrink=1.0))
    crowd.learn([watch(7), watch(2, before=rows(7)), watch(2, before=rows(7))])
    crowd.renumber(np.array([-1, -1, 0, -1, -1, -1, -1, 4], np.int32))
    watches, _ = crowd.impressions(rows(4, 0, 7, 2))
    assert watches.tolist() == [1, 2, 0, 0]
    assert crowd.rank(rows(4), 1, 5.0).best.tolist() == [0]
    crowd.learn([watch(4)])
    assert len(crowd) == 2
