"""The compiled part of co-watching: which videos the same users watch, a bounded row of neighbours for each.

Numbers of videos are those of the caller, and are held one higher: 0 is a free place.
"""

import math
from typing import Any

import numpy as np

from streams.compiled import compiled


@compiled
def add_pairs(neighbours: Any, counts: Any, video: int, others: Any) -> None:
    """Count one more user who watched `video` and each of `others`; both are [videos, places]."""
    for other in others:
        if other != video:
            _add(neighbours, counts, video, other)
            _add(neighbours, counts, other, video)


@compiled
def _add(neighbours: Any, counts: Any, video: int, other: int) -> None:
    least = 0
    for at in range(neighbours.shape[1]):
        if neighbours[video, at] == other + 1:
            counts[video, at] += 1
            return
        if neighbours[video, at] == 0:
            neighbours[video, at] = other + 1
            counts[video, at] = 1
            return
        if counts[video, at] < counts[video, least]:
            least = at
    # Full: the rarest neighbour goes, or loses one (Misra and Gries), so that what is frequent stays.
    if counts[video, least] <= 1:
        neighbours[video, least] = other + 1
        counts[video, least] = 1
    else:
        counts[video, least] -= 1


@compiled
def add_lifts(neighbours: Any, counts: Any, watched: Any, watches: Any, chance: float, lifts: Any, touched: Any) -> Any:
    """Add to `lifts` what having watched `watched` says of their neighbours; return how many are in `touched`.

    Of neighbour i it is the sum over watched j of log((C_ji + s q_i) / (C_j + s) / q_i), less what is the same for all
    videos: log(1 + C_ji / (s q_i)). s q_i is `chance` times (`watches` + 0.5).
    """
    count = 0
    for video in watched:
        for at in range(neighbours.shape[1]):
            other = neighbours[video, at] - 1
            if other < 0:
                break
            if lifts[other] == 0.0:
                touched[count] = other
                count += 1
            lifts[other] += np.float32(math.log1p(counts[video, at] / (chance * (watches[other] + 0.5))))
    return count
