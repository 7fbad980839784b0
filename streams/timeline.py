"""Rows in the order of their times, kept as they come, change and go."""

from typing import Any

import numpy as np
import numpy.typing as npt

from streams.compiled import compiled
from streams.names import Int32s, grown

Times = npt.NDArray[np.int64]


class Timeline:
    """Rows by time, then by row. The times are the caller's, by row, and must not change while a row is in it."""

    def __init__(self) -> None:
        self._rows = np.empty(0, np.int32)
        self._count = 0

    @property
    def rows(self) -> Int32s:
        """All rows, oldest first."""
        return self._rows[: self._count]

    def position(self, times: Times, ms: int) -> int:
        """Return the number of rows that are older than `ms`."""
        return _position(self.rows, times, ms, -1)

    def insert(self, times: Times, rows: Int32s) -> None:
        """Take in rows that are not in it."""
        self._rows = grown(self._rows, self._count + len(rows))
        _merge(self._rows, self._count, times, rows[np.lexsort((rows, times[rows]))])
        self._count += len(rows)

    def remove(self, times: Times, row: int) -> None:
        """Take out a row."""
        at = _position(self.rows, times, int(times[row]), row)
        self._rows[at : self._count - 1] = self._rows[at + 1 : self._count]
        self._count -= 1


@compiled
def _position(order: Any, times: Any, ms: int, row: int) -> int:
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        at = order[middle]
        if times[at] < ms or (times[at] == ms and at < row):
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _merge(order: Any, count: int, times: Any, fresh: Any) -> None:
    """Merge from the end: what is newer than all before it, as uploads mostly are, moves nothing."""
    left, right = count - 1, len(fresh) - 1
    while right >= 0:
        row = fresh[right]
        if left >= 0 and (times[order[left]] > times[row] or (times[order[left]] == times[row] and order[left] > row)):
            order[left + right + 1] = order[left]
            left -= 1
        else:
            order[left + right + 1] = row
            right -= 1
