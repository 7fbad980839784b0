"""The compiled part of a search: one pass over the catalogue's codes for all lanes of all requests."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streams.coarse import lowest, margins_of, narrow
from streams.compiled import compiled, inlined
from streams.heaps import heap, order, rise, sink
from streams.intrinsics import CHUNK, code_product, prefetch, trailing_zeros

BLOCK_BYTES = 1 << 19
"""Coarse codes that are scanned for one group after the other while they lie in the processor's second-level cache."""

SPARSE_BYTES = 1 << 23
"""The same where no group looks at all rows: what lies in a cache are the bits of the rows to look at."""

ANY = -1
PRESENT, DECIDED, CERTIFIED = 1, 2, 4
"""Bits of a mark: what is known of an attribute of a row."""
_AHEAD = 16
_LOWEST_P = 1e-3  # under the logarithm
NOWHERE = -1e9

INEXACT = 0.005
"""More than a score by 8-bit codes is off."""


def bounds_of(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return where each of pieces laid end to end begins, and where the last ends."""
    return np.array([0, *accumulate(lengths)], np.int64)


class Rows(NamedTuple):
    """The catalogue, by row; bits are packed 64 rows to a word, lowest first."""

    coarse: Any
    """uint8 [n / 16, 8 * padded dim]: vectors in 4 bits, in the order of `intrinsics.above`."""
    high: Any
    """uint8 [n, padded dim]: high bytes of the vectors in 16-bit fixed point, 32768 for zero."""
    low: Any
    """uint8 [n, dim]: their low bytes."""
    scales: Any
    """float32 [n]: what one unit of the fixed point is worth."""
    p: Any
    """uint16 [n, attributes]: bits of the student's p in float16."""
    logs: Any
    """float32: the logarithm of p by its bits; the last for what is no p."""
    tops: Any
    """float32 [n]: the highest logarithm of p among the attributes in whose lanes a row may be; NOWHERE if in none."""
    languages: Any
    """int32 [n]"""
    eligible: Any
    """uint64 [words]"""
    present: Any
    """uint64 [attributes, words]: who may be in the lane of an attribute."""
    marks: Any
    """uint8 [n, attributes]: the same by row, in the bit CERTIFIED."""


def log_table() -> Any:
    """Return the `logs` of Rows. Bits of float16 in order are numbers in order, so that those after 1 are not p."""
    p = np.arange(int(np.float16(1).view(np.uint16)) + 2, dtype=np.uint16).view(np.float16).astype(np.float32)
    p[-1] = _LOWEST_P
    return np.log(np.maximum(p, np.float32(_LOWEST_P)))


class Plan(NamedTuple):
    """Requests cut into groups that are scanned on their own, and groups into lanes that share one scan."""

    codes: Any
    """int8 [requests, padded dim]"""
    vectors: Any
    """float32 [requests, dim]"""
    units: Any
    """float32 [requests]: what one unit of `codes` is worth, 0 for a request without a vector."""
    weights: Any
    """float32 [requests]: of log p."""
    spoken: Any
    """bool [requests, languages + 1]: the languages to serve; the last stands for unknown."""
    seen: Any
    """int32: rows, in order, request after request."""
    seen_bounds: Any
    """int64 [requests + 1]"""
    owners: Any
    """int64 [groups]: the request."""
    group_bounds: Any
    """int64 [groups + 1] into lanes."""
    attributes: Any
    """int64 [lanes]: index, or ANY."""
    heap_bounds: Any
    """int64 [lanes + 1] into heaps."""
    floors: Any
    """float32 [lanes]: only rows that score above them are looked for."""


@compiled
def scan(rows: Rows, plan: Plan, width: Any, block_bytes: int, scores: Any, found: Any, sizes: Any) -> None:
    """Fill the heaps `scores`, `found` and `sizes` (per lane) with the rows that score highest by their high bytes.

    A group that takes a good part of the rows looks at all their coarse codes, which stream from memory at full speed,
    and then at the few that come near its floor. One of few rows looks at these alone. `width` is a tuple of padded
    dim / CHUNK zeros: its length is known to the compiler. A block is `block_bytes` of coarse codes.
    """
    # As plain arrays: taken from a tuple within a loop, each would be counted as one more reference every time.
    coarse, high, scales, eligible, present = rows.coarse, rows.high, rows.scales, rows.eligible, rows.present
    tops = rows.tops
    codes, units, owners, bounds, attributes = (
        plan.codes, plan.units, plan.owners, plan.group_bounds, plan.attributes,
    )  # fmt: skip
    p, logs, languages, weights, heaps = rows.p, rows.logs, rows.languages, plan.weights, plan.heap_bounds
    marks = rows.marks
    spoken, seen, seen_bounds = plan.spoken, plan.seen, plan.seen_bounds
    words, groups = len(eligible), len(owners)
    step = max(1, min(words, block_bytes // (32 * high.shape[1])))
    need = np.empty((groups, step), np.uint64)
    wanted = np.empty(groups, np.int64)
    near = np.empty(step * 64, np.int32)
    products = np.empty(step * 64, np.float32)
    floors = plan.floors.copy()
    margins = margins_of(codes)
    for start in range(0, words, step):
        count = min(step, words - start)
        for group in range(groups):
            first, last = bounds[group], bounds[group + 1]
            plain = units[owners[group]] == 0.0
            wanted[group] = _needed(eligible, present, attributes, first, last, start, count, need[group], plain)
        narrow(
            coarse, scales, tops, eligible, (codes, units, weights, owners, bounds, attributes), width, margins, floors,
            wanted, need, start, count,
        )  # fmt: skip
        for group in range(groups):
            if wanted[group] == 0:
                continue
            first, last, owner = bounds[group], bounds[group + 1], owners[group]
            hits = _collect(need[group], count, start, near)
            if units[owner] == 0.0:
                products[:hits] = 0.0
            else:
                restricted, unrestricted = lowest(floors, attributes, first, last)
                hits = _picked(
                    high, scales, tops, marks, p, languages, codes[owner], units[owner], weights[owner], width, hits,
                    restricted, unrestricted, near, products,
                )  # fmt: skip
            _offer(
                near[:hits], products[:hits], first, last, floors, attributes, marks, p, logs, weights[owner],
                languages, spoken[owner], seen[seen_bounds[owner] : seen_bounds[owner + 1]],
                heaps, scores, found, sizes,
            )  # fmt: skip


@compiled
def _offer(
    near: Any, products: Any, first: int, last: int, floors: Any, attributes: Any, marks: Any, p: Any, logs: Any,
    weight: Any, languages: Any, spoken: Any, seen: Any, heaps: Any, scores: Any, found: Any, sizes: Any,
) -> None:  # fmt: skip
    """Put rows into the lanes that take them; `floors` are the scores that a lane's next row must be above.

    All that most rows meet stands in this loop: a call hands over every array, and costs more than what it does.
    """
    most, alone = len(logs) - 1, last - first == 1  # of a lane alone all rows are its own
    for i in range(len(near)):
        row, product, known = near[i], products[i], False
        for lane in range(first, last):
            floor = floors[lane]
            if product <= floor:  # log p, which is still to come, is never positive
                continue
            attribute, score = attributes[lane], product
            if attribute != ANY:
                if not alone and not marks[row, attribute] & CERTIFIED:
                    continue
                score += weight * logs[min(p[row, attribute], most)]
                if score <= floor:
                    continue
            known = known or (spoken[languages[row]] and not holds(seen, row))
            if not known:
                break
            start, room = heaps[lane], heaps[lane + 1] - heaps[lane]
            if sizes[lane] == room:
                sink(scores, found, start, start + room, 0, score, row)
            else:
                rise(scores, found, start, sizes[lane], score, row)
                sizes[lane] += 1
            if sizes[lane] == room:
                floors[lane] = scores[start]


@compiled
def _needed(
    eligible: Any, present: Any, attributes: Any, first: int, last: int, start: int, count: int, need: Any, plain: bool
) -> Any:
    """Set `need` to the words of the rows that the attributes of a group take; return how many all its lanes do.

    `plain`: of a group that has a lane of all rows, to these.
    """
    # As plain arrays of one length: by their places in longer ones they would be taken one by one.
    wanted, served = need[:count], eligible[start : start + count]
    everything = False
    wanted[:] = 0
    for lane in range(first, last):
        attribute = attributes[lane]
        if attribute == ANY:
            everything = True
            continue
        bits = present[attribute, start : start + count]
        for i in range(count):
            wanted[i] |= bits[i]
    total = 0
    for i in range(count):
        wanted[i] &= served[i]
        total += _bits(wanted[i])
    if everything and plain:
        wanted[:] = served
    return count * 64 if everything else total


@compiled
def _bits(word: Any) -> Any:
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def _collect(need: Any, count: int, start: int, near: Any) -> Any:
    total = 0
    for i in range(count):
        word = need[i]
        while word != 0:
            near[total] = (start + i) * 64 + np.int64(trailing_zeros(word))
            total += 1
            word &= word - np.uint64(1)
    return total


@compiled
def _picked(
    high: Any, scales: Any, tops: Any, marks: Any, p: Any, languages: Any, codes: Any, unit: Any, weight: Any,
    width: Any, count: int, restricted: Any, unrestricted: Any, near: Any, products: Any,
) -> Any:  # fmt: skip
    """Leave in `near`, and their products in `products`, the rows that some lane may take; return their number.

    Those are above the floor `unrestricted`, or with the most that an attribute gives them above `restricted`. Some
    rows are waited for while others are fetched, and what is asked of those that are left is fetched as well.
    """
    bias = _bias(codes)
    by_top = weight != 0.0 and restricted < unrestricted
    floor = unrestricted if by_top else min(restricted, unrestricted)
    hits = 0
    for i in range(min(_AHEAD, count)):
        _fetch_codes(high, scales, near[i])
    for i in range(count):
        if i + _AHEAD < count:
            _fetch_codes(high, scales, near[i + _AHEAD])
            if by_top:
                prefetch(tops, np.int64(near[i + _AHEAD]))
        row = near[i]
        score = (np.float32(code_product(high, row, codes, width)) - bias) * scales[row] * unit
        near[hits] = row
        products[hits] = score
        if score > floor or (by_top and score + weight * tops[row] > restricted):
            prefetch(marks, np.int64(row) * marks.shape[1])
            prefetch(p, np.int64(row) * p.shape[1])
            prefetch(languages, np.int64(row))
            hits += 1
    return hits


@inlined
def _fetch_codes(high: Any, scales: Any, row: Any) -> None:
    ahead, padded = np.int64(row), high.shape[1]
    for line in range(0, padded, CHUNK):
        prefetch(high, ahead * padded + line)
    prefetch(scales, ahead)


@compiled
def _bias(codes: Any) -> Any:
    """Return what the offset of the high bytes (and half of a low byte) adds to a product."""
    total = 0
    for code in codes:
        total += np.int64(code)
    return np.float32(127.5 * total)


@compiled
def holds(ordered: Any, row: Any) -> bool:
    """Tell whether a row is among rows in order."""
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low < len(ordered) and ordered[low] == row


@compiled
def rank(rows: Rows, plan: Plan, scores: Any, found: Any, sizes: Any) -> None:
    """Score what was found by the whole vectors, and sort each lane, best first."""
    high, low, scales, p, logs = rows.high, rows.low, rows.scales, rows.p, rows.logs
    attributes, heaps, bounds = plan.attributes, plan.heap_bounds, plan.group_bounds
    for group in range(len(plan.owners)):
        request = plan.owners[group]
        vector, weight = plan.vectors[request], plan.weights[request]
        for lane in range(bounds[group], bounds[group + 1]):
            start, size = heaps[lane], sizes[lane]
            cosines(high, low, scales, vector, found[start : start + size], scores[start : start + size])
            if attributes[lane] != ANY:
                for at in range(start, start + size):
                    scores[at] += weight * logs[min(p[found[at], attributes[lane]], len(logs) - 1)]
            heap(scores, found, start, size)
            order(scores, found, start, size)


@compiled
def cosines(high: Any, low: Any, scales: Any, vector: Any, found: Any, scores: Any) -> None:
    """Set `scores` to the products of `vector` (float32) and the whole vectors of the rows `found`."""
    for i in range(len(found)):
        if i + _AHEAD < len(found):
            fetch(high, low, scales, found[i + _AHEAD])
        scores[i] = cosine(high, low, scales, vector, found[i])


@inlined
def fetch(high: Any, low: Any, scales: Any, row: Any) -> None:
    """Have a row's vector fetched before it is needed."""
    dim, padded, ahead = low.shape[1], high.shape[1], np.int64(row)
    for line in range(0, dim, CHUNK):
        prefetch(high, ahead * padded + line)
        prefetch(low, ahead * dim + line)
    prefetch(scales, ahead)


@inlined
def cosine(high: Any, low: Any, scales: Any, vector: Any, row: Any) -> Any:
    """Return the product of `vector` and the whole vector of a row, float32."""
    upper, lower, total = high[row], low[row], np.float32(0.0)
    for d in range(low.shape[1]):
        number = np.int32((np.int32(upper[d]) << 8) + np.int32(lower[d]) - np.int32(32_768))
        total += np.float32(number) * vector[d]
    return np.float32(total) * scales[row]


@compiled
def newest(rows: Rows, spoken: Any, seen: Any, order: Any, found: Any) -> Any:
    """Fill `found` with the latest rows of `order` that may be served; return their number."""
    eligible, languages = rows.eligible, rows.languages
    count = 0
    for at in range(len(order) - 1, -1, -1):
        if count == len(found):
            break
        row = order[at]
        bit = (eligible[row >> 6] >> np.uint64(row & 63)) & np.uint64(1)
        if bit and spoken[languages[row]] and not holds(seen, row):
            found[count] = row
            count += 1
    return count


@compiled
def write_tops(tops: Any, rows: Any, p: Any, logs: Any, marks: Any) -> None:
    """Set the `tops` of `rows` from what is known of them; see Rows."""
    for row in rows:
        best = np.float32(NOWHERE)
        for attribute in range(marks.shape[1]):
            if marks[row, attribute] & CERTIFIED:
                best = max(best, logs[min(p[row, attribute], len(logs) - 1)])
        tops[row] = best


@compiled
def write_bits(words: Any, rows: Any, values: Any) -> Any:
    """Set the bits of `rows` in `words` to `values` (bool); return how many more are set."""
    more = 0
    for i in range(len(rows)):
        word, place = rows[i] >> 6, np.uint64(rows[i] & 63)
        bit = np.uint64(1) << place
        more += np.int64(values[i]) - np.int64((words[word] >> place) & np.uint64(1))
        words[word] = words[word] | bit if values[i] else words[word] & ~bit
    return more
