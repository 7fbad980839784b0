"""The vectors of a catalogue in three precisions: 4 bits to find, 8 bits to look closer, 16 bits to be exact."""

from typing import Any

import numpy as np
import numpy.typing as npt

from streams.coarse import write_coarse
from streams.intrinsics import CHUNK, LINED
from streams.names import Int32s, grown
from streams.retriever import Float32s
from streams.vectors import from_fixed_point, to_fixed_point


class Embeddings:
    """A growing column of vectors, L2-normalised: see `scan.Rows`. A row's scale is 0 where it has none."""

    def __init__(self, dim: int) -> None:
        padded = -(-dim // CHUNK) * CHUNK
        self.coarse = np.empty((0, padded * LINED // 2), np.uint8)
        self.high = np.empty((0, padded), np.uint8)
        self.low = np.empty((0, dim), np.uint8)
        self.scales = np.empty(0, np.float32)

    def reserve(self, rows: int) -> None:
        """Have room for so many rows, and for whole words of them."""
        rows = -(-rows // 64) * 64
        self.coarse = grown(self.coarse, rows // LINED)
        self.high = grown(self.high, rows)
        self.low = grown(self.low, rows)
        self.scales = grown(self.scales, rows)

    def write(self, rows: Int32s, vectors: Float32s) -> None:
        """Set the vectors [rows, dim] of rows; what is not finite, or all zeros, is none."""
        high, low, self.scales[rows] = to_fixed_point(vectors)
        self.high[rows, : high.shape[1]], self.low[rows] = high, low
        write_coarse(self.coarse, rows, high, low)

    def vector(self, row: int) -> Float32s | None:
        """Return the vector of a row."""
        if self.scales[row] == 0.0:
            return None
        return from_fixed_point(self.high[row, : self.low.shape[1]], self.low[row], self.scales[row])

    def has(self, rows: Int32s) -> npt.NDArray[np.bool_]:
        """Tell which rows have a vector."""
        return self.scales[rows] != 0.0

    @property
    def columns(self) -> tuple[Any, Any, Any]:
        """High and low bytes, and scales."""
        return self.high, self.low, self.scales
