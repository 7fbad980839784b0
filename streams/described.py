"""The compiled part of looking rows up."""

from typing import Any

import numpy as np

from streams.compiled import compiled
from streams.retriever import Described, Int32s


def described(columns: tuple[Any, ...], rows: Int32s, creators: Int32s) -> Described:
    """Return what is known of rows; `columns` are the first eight arguments of `describe`."""
    high, low, scales, p, logs, present, decided, certified = columns
    dim, attributes = low.shape[1], len(present)
    made = Described(
        vectors=np.empty((len(rows), dim), np.float32),
        present=np.empty((len(rows), attributes), np.bool_),
        open=np.empty((len(rows), attributes), np.bool_),
        certified=np.empty((len(rows), attributes), np.bool_),
        log_p=np.empty((len(rows), attributes), np.float32),
        creators=creators,
    )
    describe(
        high, low, scales, p, logs, present, decided, certified,
        rows, made.vectors, made.present, made.open, made.certified, made.log_p,
    )  # fmt: skip
    return made


@compiled
def describe(
    high: Any, low: Any, scales: Any, p: Any, logs: Any, present: Any, decided: Any, certified: Any,
    rows: Any, vectors: Any, has: Any, open_: Any, sure: Any, log_p: Any,
) -> None:  # fmt: skip
    """Write the vectors [n, dim], labels and logarithms of p [n, attributes] of `rows`; columns as in `scan.Rows`."""
    for i in range(len(rows)):
        row = rows[i]
        upper, lower, scale, vector = high[row], low[row], scales[row], vectors[i]
        for d in range(len(vector)):
            number = (np.int32(upper[d]) << 8) + np.int32(lower[d]) - np.int32(32_768)
            vector[d] = np.float32(number) * scale
        word, bit = row >> 6, np.uint64(row & 63)
        for a in range(len(present)):
            has[i, a] = (present[a, word] >> bit) & np.uint64(1)
            open_[i, a] = not (decided[a, word] >> bit) & np.uint64(1)
            sure[i, a] = (certified[a, word] >> bit) & np.uint64(1)
            log_p[i, a] = logs[min(p[row, a], len(logs) - 1)]
