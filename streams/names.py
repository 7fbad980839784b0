"""Strings that stand for numbers: a catalogue's ids in a tenth of the memory of a dict of str."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.compiled import compiled
from streams.intrinsics import prefetch

Int32s = npt.NDArray[np.int32]
Packed = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
"""Strings end to end in UTF-8, and n + 1 bounds."""

_EMPTY = -1
_WAVE = 32


def pack(strings: Sequence[str]) -> Packed:
    """Lay strings end to end."""
    text = "".join(strings)
    parts = strings if text.isascii() else [string.encode() for string in strings]
    bounds = np.zeros(len(strings) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(strings)), out=bounds[1:])
    return np.frombuffer(text.encode(), np.uint8), bounds


def pack_column(column: Any) -> Packed:
    """Return the memory of a pyarrow.StringArray without nulls; nothing is copied but the bounds."""
    _, bounds, text = column.buffers()
    if len(column) == 0 or text is None:
        return np.empty(0, np.uint8), np.zeros(len(column) + 1, np.int64)
    ends = np.frombuffer(bounds, np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(text, np.uint8), ends.astype(np.int64)


class Names:
    """Numbers strings in the order in which they first come."""

    def __init__(self) -> None:
        self._count = 0
        self._text = np.empty(0, np.uint8)
        self._bounds = np.zeros(1, np.int64)
        self._slots = np.full(16, _EMPTY, np.int32)

    def __len__(self) -> int:
        """Strings that have a number."""
        return self._count

    def strings(self, numbers: Sequence[int]) -> list[str]:
        """Return the strings of numbers."""
        at = np.array(numbers, np.intp)
        starts, bounds = self._bounds[at], np.zeros(len(at) + 1, np.int64)
        np.cumsum(self._bounds[at + 1] - starts, out=bounds[1:])
        text = np.empty(bounds[-1], np.uint8)
        _gather(self._text, starts, bounds, text)
        whole = text.tobytes()
        if whole.isascii():
            together = whole.decode()
            return [together[start:end] for start, end in pairwise(bounds.tolist())]
        return [whole[start:end].decode() for start, end in pairwise(bounds.tolist())]

    def find(self, strings: Packed) -> Int32s:
        """Return the number of each string, -1 where it has none."""
        text, bounds = strings
        numbers = np.empty(len(bounds) - 1, np.int32)
        _find(self._text, self._bounds, self._slots, text, bounds, numbers)
        return numbers

    def add(self, strings: Packed) -> Int32s:
        """Return the number of each string; new ones get the next."""
        text, bounds = strings
        numbers = np.empty(len(bounds) - 1, np.int32)
        self._reserve(self._count + len(numbers), int(self._bounds[self._count] + bounds[-1] - bounds[0]))
        self._count = _add(self._text, self._bounds, self._slots, self._count, text, bounds, numbers)
        return numbers

    def _reserve(self, count: int, size: int) -> None:
        self._text = grown(self._text, size)
        self._bounds = grown(self._bounds, count + 1)
        if 3 * count > 2 * len(self._slots):
            self._slots = np.full(1 << (3 * count // 2).bit_length(), _EMPTY, np.int32)
            _place(self._text, self._bounds, self._slots, self._count)


def grown(array: npt.NDArray[Any], length: int, axis: int = 0) -> npt.NDArray[Any]:
    """Return `array` with room for at least `length` along `axis`, zeros where it is new.

    Half as much again, so that appending stays linear; what is not written yet takes no memory.
    """
    held = array.shape[axis]
    if length <= held:
        return array
    shape = list(array.shape)
    shape[axis] = max(length, held + held // 2, 1_024)
    larger = np.zeros(shape, array.dtype)
    larger[tuple(slice(extent) for extent in array.shape)] = array
    return larger


@compiled
def _gather(text: Any, starts: Any, bounds: Any, gathered: Any) -> None:
    for i in range(len(starts)):
        for offset in range(bounds[i + 1] - bounds[i]):
            gathered[bounds[i] + offset] = text[starts[i] + offset]


@compiled
def _slot(text: Any, start: int, end: int, slots: Any) -> Any:
    code = np.uint64(14695981039346656037)  # FNV-1a
    for i in range(start, end):
        code = (code ^ np.uint64(text[i])) * np.uint64(1099511628211)
    return np.int64((code ^ (code >> np.uint64(32))) & np.uint64(len(slots) - 1))


@compiled
def _place(text: Any, bounds: Any, slots: Any, count: int) -> None:
    for number in range(count):
        at = _slot(text, bounds[number], bounds[number + 1], slots)
        while slots[at] >= 0:
            at = (at + 1) & (len(slots) - 1)
        slots[at] = number


@compiled
def _probe(text: Any, bounds: Any, slots: Any, other: Any, start: int, end: int, at: int) -> Any:
    """Return the slot of a string, from its first on, or the free one where it would be."""
    while slots[at] >= 0:
        known = bounds[slots[at]]
        same = bounds[slots[at] + 1] - known == end - start
        offset = 0
        while same and offset < end - start:
            same = text[known + offset] == other[start + offset]
            offset += 1
        if same:
            break
        at = (at + 1) & (len(slots) - 1)
    return at


@compiled
def _find(text: Any, bounds: Any, slots: Any, other: Any, ends: Any, numbers: Any) -> None:
    """Look strings up in waves: what one needs from memory is on its way while others are looked at."""
    wave = np.empty(_WAVE, np.int64)
    for first in range(0, len(numbers), _WAVE):
        count = min(_WAVE, len(numbers) - first)
        for i in range(count):
            wave[i] = _slot(other, ends[first + i], ends[first + i + 1], slots)
            prefetch(slots, wave[i])
        for i in range(count):
            if slots[wave[i]] >= 0:
                prefetch(bounds, np.int64(slots[wave[i]]))
        for i in range(count):
            if slots[wave[i]] >= 0:
                prefetch(text, bounds[slots[wave[i]]])
        for i in range(count):
            at = _probe(text, bounds, slots, other, ends[first + i], ends[first + i + 1], wave[i])
            numbers[first + i] = slots[at]


@compiled
def _add(text: Any, bounds: Any, slots: Any, count: int, other: Any, ends: Any, numbers: Any) -> int:
    for i in range(len(numbers)):
        start, end = ends[i], ends[i + 1]
        at = _probe(text, bounds, slots, other, start, end, _slot(other, start, end, slots))
        if slots[at] < 0:
            slots[at] = count
            known = bounds[count]
            for offset in range(end - start):
                text[known + offset] = other[start + offset]
            count += 1
            bounds[count] = known + end - start
        numbers[i] = slots[at]
    return count
