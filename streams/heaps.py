"""Heaps of scored rows within longer arrays, compiled: the worst that is kept comes first, until a heap is ordered.

Of equal scores the later row is worse.
"""

from typing import Any

from streams.compiled import compiled


@compiled
def _before(score: Any, row: Any, other_score: Any, other_row: Any) -> bool:
    return score < other_score or (score == other_score and row > other_row)


@compiled
def rise(scores: Any, rows: Any, start: int, at: int, score: Any, row: Any) -> None:
    """Put a row into the heap that begins at `start` and has `at` rows."""
    while at > 0:
        parent = (at - 1) // 2
        if not _before(score, row, scores[start + parent], rows[start + parent]):
            break
        scores[start + at], rows[start + at] = scores[start + parent], rows[start + parent]
        at = parent
    scores[start + at], rows[start + at] = score, row


@compiled
def sink(scores: Any, rows: Any, start: int, end: int, at: int, score: Any, row: Any) -> None:
    """Put a row in the place of the one at `start + at`, which is gone."""
    while True:
        child = start + 2 * at + 1
        if child >= end:
            break
        if child + 1 < end and _before(scores[child + 1], rows[child + 1], scores[child], rows[child]):
            child += 1
        if not _before(scores[child], rows[child], score, row):
            break
        scores[start + at], rows[start + at] = scores[child], rows[child]
        at = child - start
    scores[start + at], rows[start + at] = score, row


@compiled
def heap(scores: Any, rows: Any, start: int, size: int) -> None:
    """Make a heap of rows in any order."""
    for at in range(size // 2 - 1, -1, -1):
        sink(scores, rows, start, start + size, at, scores[start + at], rows[start + at])


@compiled
def order(scores: Any, rows: Any, start: int, size: int) -> None:
    """Sort a heap, the best first."""
    for end in range(start + size - 1, start, -1):
        score, row = scores[end], rows[end]
        scores[end], rows[end] = scores[start], rows[start]
        sink(scores, rows, start, end, 0, score, row)


@compiled
def keep_best(scores: Any, rows: Any, start: int, size: int, most: int, score: Any, row: Any) -> int:
    """Offer a row to the heap at `start`, of at most `most` rows; return its size then."""
    if size < most:
        rise(scores, rows, start, size, score, row)
        return size + 1
    if most > 0 and _before(scores[start], rows[start], score, row):
        sink(scores, rows, start, start + size, 0, score, row)
    return size
