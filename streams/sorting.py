"""Positions by their scores, the highest first, compiled."""

from typing import Any

import numpy as np

from streams.compiled import compiled

_DIGITS = (0, 11, 22)
_VALUES = 2_048  # of 11 bits
_LEADING = np.uint32(21)  # what is left of a key without them


@compiled
def descending(scores: Any) -> Any:
    """Return positions, the highest score (float32) first, of equals the earlier: a radix sort of three passes."""
    keys = _keys(scores)
    order, sorted_ = np.arange(len(scores)), np.empty(len(scores), np.int64)
    for shift in _DIGITS:
        starts = np.zeros(_VALUES + 1, np.int64)
        for key in keys:
            starts[((key >> np.uint32(shift)) & np.uint32(_VALUES - 1)) + 1] += 1
        for i in range(_VALUES):
            starts[i + 1] += starts[i]
        for at in order:
            digit = (keys[at] >> np.uint32(shift)) & np.uint32(_VALUES - 1)
            sorted_[starts[digit]] = at
            starts[digit] += 1
        order, sorted_ = sorted_, order
    return order


@compiled
def highest(scores: Any, most: int) -> Any:
    """Return the first `most` positions of that order; where it is a part of many, sorting them all would cost most."""
    keys = _keys(scores)
    counts = np.zeros(_VALUES, np.int64)
    for key in keys:
        counts[key >> _LEADING] += 1
    last, count = 0, counts[0]
    while last < _VALUES - 1 and count < most:
        last += 1
        count += counts[last]
    places, among = np.empty(count, np.int64), np.empty(count, np.float32)
    end = 0
    for at in range(len(keys)):
        if keys[at] >> _LEADING <= np.uint32(last):
            places[end], among[end] = at, scores[at]
            end += 1
    return places[descending(among)[:most]]


@compiled
def _keys(scores: Any) -> Any:
    """Return uint32 in the opposite order."""
    keys = (scores + np.float32(0.0)).view(np.uint32)  # there is no negative zero after it
    for i in range(len(keys)):
        if keys[i] < np.uint32(0x8000_0000):
            keys[i] = np.uint32(0x7FFF_FFFF) - keys[i]
    return keys
