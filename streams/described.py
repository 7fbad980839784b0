"""The compiled part of looking rows up."""

from typing import Any

import numpy as np

from streams.compiled import compiled
from streams.intrinsics import CHUNK, prefetch
from streams.retriever import Described, Int32s
from streams.scan import CERTIFIED, DECIDED, PRESENT

_AHEAD = 8


def described(columns: tuple[Any, ...], rows: Int32s, creators: Int32s) -> Described:
    """Return what is known of rows; `columns` are the first arguments of `describe`."""
    high, low, scales, p, logs, marks = columns
    dim, attributes = low.shape[1], marks.shape[1]
    made = Described(
        vectors=np.empty((len(rows), dim), np.float32),
        present=np.empty((len(rows), attributes), np.bool_),
        open=np.empty((len(rows), attributes), np.bool_),
        certified=np.empty((len(rows), attributes), np.bool_),
        log_p=np.empty((len(rows), attributes), np.float32),
        creators=creators,
    )
    describe(
        high, low, scales, p, logs, marks, rows, made.vectors, made.present, made.open, made.certified, made.log_p
    )  # fmt: skip
    return made


@compiled
def describe(
    high: Any, low: Any, scales: Any, p: Any, logs: Any, marks: Any,
    rows: Any, vectors: Any, has: Any, open_: Any, sure: Any, log_p: Any,
) -> None:  # fmt: skip
    """Write the vectors [n, dim], labels and logarithms of p [n, attributes] of `rows`; columns as in `scan.Rows`.

    `marks` (uint8 [n, attributes]) have bits PRESENT, DECIDED, and CERTIFIED.
    """
    dim, padded, attributes = low.shape[1], high.shape[1], marks.shape[1]
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            ahead = np.int64(rows[i + _AHEAD])
            for line in range(0, dim, CHUNK):
                prefetch(high, ahead * padded + line)
                prefetch(low, ahead * dim + line)
            for last in (0, attributes - 1):  # a row may lie in two lines
                prefetch(p, ahead * attributes + last)
                prefetch(marks, ahead * attributes + last)
            prefetch(scales, ahead)
        row = rows[i]
        upper, lower, scale, vector = high[row], low[row], scales[row], vectors[i]
        for d in range(dim):
            number = (np.int32(upper[d]) << 8) + np.int32(lower[d]) - np.int32(32_768)
            vector[d] = np.float32(number) * scale
        for a in range(attributes):
            mark = marks[row, a]
            has[i, a] = mark & PRESENT != 0
            open_[i, a] = mark & DECIDED == 0
            sure[i, a] = mark & CERTIFIED != 0
            log_p[i, a] = logs[min(p[row, a], len(logs) - 1)]
