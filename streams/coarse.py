"""The first look at a catalogue, compiled: vectors in 4 bits tell which rows may score above a floor."""

from typing import Any

import numpy as np

from streams.compiled import compiled
from streams.intrinsics import LINED, above

_TOGETHER = 4
"""Groups that are scanned in one go: a row is loaded and taken apart once for all."""
DENSE = 8
"""A group that wants more than one of so many rows looks at all: the others cost less than to leave them out."""
_PARTS = 64 // LINED  # of a word of bits
_ZERO = 8
_LARGEST = 7
_UNIT = np.float32(32_767 / _LARGEST / 256)
"""What one unit of a coarse code is worth, in those of a high byte."""
_ERROR = np.float32(2 * 12**-0.5)
"""Two standard deviations of what is lost by rounding to whole numbers. Of rows that score just above the floor one in
40 may be missed; but lanes look for half as many again as they are asked for, so that these are not the ones."""


@compiled
def narrow(
    coarse: Any, scales: Any, tops: Any, eligible: Any, plan: Any, width: Any, margins: Any, floors: Any,
    wanted: Any, need: Any, start: int, count: int,
) -> None:  # fmt: skip
    """Leave in `need`, for groups that want many of the rows, those that may score above their floors.

    It has the rows of some attribute; where a lane is of all rows, those that may score above its floor are added.
    `plan` are codes, units, weights, owners, group_bounds and attributes of the scan's.
    """
    codes, units, weights, owners, bounds, attributes = plan
    quad = np.empty((_TOGETHER, codes.shape[1]), np.int8)
    shifts, least = np.empty(_TOGETHER, np.float32), np.empty((2, _TOGETHER), np.float32)
    gains = np.empty(_TOGETHER, np.float32)
    many = np.flatnonzero(wanted * DENSE > count * 64)
    many = many[units[owners[many]] != 0.0]
    for at in range(0, len(many), _TOGETHER):
        together = many[at : at + _TOGETHER]
        for i in range(_TOGETHER):
            group = together[min(i, len(together) - 1)]
            owner = owners[group]
            quad[i] = codes[owner]
            shifts[i] = margins[owner]
            unit = units[owner] * _UNIT
            gains[i] = weights[owner] / unit
            restricted, unrestricted = lowest(floors, attributes, bounds[group], bounds[group + 1])
            least[0, i], least[1, i] = restricted / unit, unrestricted / unit
        if len(together) == 1:
            only = need[together[0]]
            _mark_one(coarse, quad, shifts, least, gains, scales, tops, width, only, eligible, start, count)
        else:
            _mark(coarse, quad, shifts, least, gains, scales, tops, width, need, together, eligible, start, count)


@compiled
def lowest(floors: Any, attributes: Any, first: int, last: int) -> Any:
    """Return the lowest floor of the lanes of attributes, and that of the lanes of all rows."""
    restricted = unrestricted = np.float32(np.inf)
    for lane in range(first, last):
        if attributes[lane] < 0:
            unrestricted = min(unrestricted, floors[lane])
        else:
            restricted = min(restricted, floors[lane])
    return restricted, unrestricted


@compiled
def margins_of(codes: Any) -> Any:
    """Return what to add to products with coarse codes: the offset of the codes is taken off, and nothing falls short.

    The error of a code is spread evenly over one unit.
    """
    margins = np.empty(len(codes), np.float32)
    for i in range(len(codes)):
        total, squares = 0, 0
        for code in codes[i]:
            total += np.int64(code)
            squares += np.int64(code) * np.int64(code)
        margins[i] = _ERROR * np.float32(squares) ** np.float32(0.5) - np.float32(_ZERO * total)
    return margins


@compiled
def _mark_one(
    coarse: Any, quad: Any, shifts: Any, least: Any, gains: Any, scales: Any, tops: Any, width: Any,
    need: Any, eligible: Any, start: int, count: int,
) -> None:  # fmt: skip
    for i in range(count):
        low = high = np.uint64(0)
        for part in range(_PARTS):
            line, place = (start + i) * _PARTS + part, np.uint64(part * LINED)
            above_low, above_high = above(coarse, line, quad, shifts, least, gains, scales, tops, width, (0,))
            low |= above_low << place
            high |= above_high << place
        need[i] = (need[i] & low) | (eligible[start + i] & high)


@compiled
def _mark(
    coarse: Any, quad: Any, shifts: Any, least: Any, gains: Any, scales: Any, tops: Any, width: Any,
    need: Any, groups: Any, eligible: Any, start: int, count: int,
) -> None:  # fmt: skip
    low, high = np.empty(_PARTS, np.uint64), np.empty(_PARTS, np.uint64)
    mask = np.uint64((1 << LINED) - 1)
    for i in range(count):
        for part in range(_PARTS):
            line = (start + i) * _PARTS + part
            low[part], high[part] = above(coarse, line, quad, shifts, least, gains, scales, tops, width, (0,) * 4)
        for at in range(len(groups)):
            below, own_low, own_high = np.uint64(at * LINED), np.uint64(0), np.uint64(0)
            for part in range(_PARTS):
                own_low |= ((low[part] >> below) & mask) << np.uint64(part * LINED)
                own_high |= ((high[part] >> below) & mask) << np.uint64(part * LINED)
            group = groups[at]
            need[group, i] = (need[group, i] & own_low) | (eligible[start + i] & own_high)


@compiled
def write_coarse(coarse: Any, rows: Any, high: Any, low: Any) -> None:
    """Set the coarse codes of `rows` to those of vectors whose bytes are `high` and `low` [rows, dim]."""
    for i in range(len(rows)):
        line, place = rows[i] // LINED, 4 * (rows[i] % LINED)
        for d in range(high.shape[1]):
            number = (np.int32(high[i, d]) << 8) + np.int32(low[i, d]) - np.int32(32_768)
            code = np.uint8(np.int32(np.floor(number * (_LARGEST / 32_767) + 0.5)) + _ZERO)
            at, shift = (d // 8) * 4 * LINED + place + d % 4, np.uint8(4 * (d % 8 // 4))
            coarse[line, at] = (coarse[line, at] & np.uint8(0xF0 >> shift)) | np.uint8(code << shift)
