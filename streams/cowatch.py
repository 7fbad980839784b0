"""The compiled part of co-watching: which videos the same users watch, a bounded row of neighbours for each.

Numbers of videos are those of the caller, and are held one higher: 0 is a free place.
"""

from typing import Any

import numpy as np

from streams.compiled import compiled
from streams.intrinsics import CHUNK, prefetch

_AHEAD = 4
_LINE = CHUNK // 4
"""Numbers of 32 bits in a cache line."""


@compiled
def add_pairs(neighbours: Any, counts: Any, video: int, others: Any) -> None:
    """Count one more user who watched `video` and each of `others`; both are [videos, places]."""
    for at in range(len(others)):
        if at + _AHEAD < len(others):
            _fetch(neighbours, counts, others[at + _AHEAD])
        other = others[at]
        if other != video:
            _add(neighbours, counts, video, other)
            _add(neighbours, counts, other, video)


@compiled
def _fetch(neighbours: Any, counts: Any, video: Any) -> None:
    """Have a row of neighbours fetched before it is needed."""
    places = neighbours.shape[1]
    for at in range(0, places, _LINE):
        prefetch(neighbours, np.int64(video) * places + at)
        prefetch(counts, np.int64(video) * places + at)


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
def keep_neighbours(neighbours: Any, counts: Any, kept: Any, again: Any) -> None:
    """Move the rows `kept`, in order, to the front, without the neighbours that have gone and without gaps.

    `again` are the new numbers of videos by the old ones, both one higher; 0 for those that have gone.
    """
    places = neighbours.shape[1]
    for to in range(len(kept)):
        video, count = kept[to], 0
        for at in range(places):
            number = again[neighbours[video, at]]
            if number:
                # Never past what is read: rows only move to the front, and so do their neighbours.
                neighbours[to, count], counts[to, count] = number, counts[video, at]
                count += 1
        neighbours[to, count:] = 0


@compiled
def add_lifts(neighbours: Any, counts: Any, watched: Any, watches: Any, chance: float, lifts: Any, touched: Any) -> Any:
    """Add to `lifts` what having watched `watched` says of their neighbours; return how many are in `touched`.

    Of neighbour i it is the sum over watched j of log((C_ji + s q_i) / (C_j + s) / q_i), less what is the same for all
    videos: log(1 + C_ji / (s q_i)). s q_i is `chance` times (`watches` + 0.5).
    """
    count, places = 0, neighbours.shape[1]
    scale = np.float32(1.0 / chance)
    ratios = np.empty(places, np.float32)
    for at_video in range(len(watched)):
        if at_video + _AHEAD < len(watched):
            _fetch(neighbours, counts, watched[at_video + _AHEAD])
        video, known = watched[at_video], 0
        while known < places and neighbours[video, known] > 0:
            other = neighbours[video, known] - 1
            ratios[known] = np.float32(1.0) + scale * counts[video, known] / (watches[other] + np.float32(0.5))
            known += 1
        _to_logarithms(ratios[:known])
        for at in range(known):
            other = neighbours[video, at] - 1
            if lifts[other] == 0.0:
                touched[count] = other
                count += 1
            lifts[other] += ratios[at]
    return count


@compiled
def take_up(found: Any, lifts: Any, trend: Any, weight: Any, popularities: Any, taken: Any) -> None:
    """Set `taken` to `weight` times the lifts of the videos `found`, which are 0 after, and their popularities."""
    for i in range(len(found)):
        video = found[i]
        taken[i] = weight * lifts[video]
        lifts[video] = np.float32(0.0)
        popularities[i] = np.float32(1.0) + np.float32(2.0) * trend[video]
    _to_logarithms(popularities)


@compiled
def look_up(
    found: Any, popularity: Any, lift: Any, numbers: Any, places: Any, rows: Any, popularities: Any, lifts: Any
) -> None:
    """Set `popularities` and `lifts` to those of `rows` that are `found`; `numbers` are the videos of rows.

    `places` has room for every video, and is all 0 before and after.
    """
    for at in range(len(found)):
        places[found[at]] = at + 1
    for i in range(len(rows)):
        video = numbers[rows[i]] - 1 if rows[i] < len(numbers) else -1
        if video >= 0 and places[video]:
            popularities[i] = popularity[places[video] - 1]
            lifts[i] = lift[places[video] - 1]
    for video in found:
        places[video] = 0


@compiled
def _to_logarithms(numbers: Any) -> None:
    """Replace float32 numbers of 1 or more by their logarithms, to 1e-7; several at once, as libm's can't.

    A number is 2^e m with m in [0.7, 1.4]; log m = 2 artanh((m - 1) / (m + 1)), by its series.
    """
    bits = numbers.view(np.int32)
    for i in range(len(numbers)):
        exponent = (bits[i] >> 23) - 127
        bits[i] = (bits[i] & 0x7FFFFF) | 0x3F800000
        mantissa = numbers[i]
        upper = mantissa > np.float32(1.41421356)
        mantissa = mantissa * np.float32(0.5) if upper else mantissa
        z = (mantissa - np.float32(1.0)) / (mantissa + np.float32(1.0))
        w = z * z
        series = np.float32(1 / 3) + w * (np.float32(1 / 5) + w * (np.float32(1 / 7) + w * np.float32(1 / 9)))
        halves = np.float32(exponent + (1 if upper else 0))
        numbers[i] = np.float32(2.0) * z * (np.float32(1.0) + w * series) + halves * np.float32(0.6931471806)
