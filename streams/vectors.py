"""Vectors in 16-bit fixed point, two arrays of bytes: half of float32, and nearer to it than float16."""

from typing import Any

import numpy as np
import numpy.typing as npt

from streams.retriever import Float32s

Bytes = npt.NDArray[np.uint8]
_ZERO = 32_768
_LARGEST = 32_767


def to_fixed_point(vectors: Float32s) -> tuple[Bytes, Bytes, Float32s]:
    """Return the high and low bytes [n, dim] of vectors, L2-normalised, and the worth of a unit [n].

    A vector of zeros, or one that is not finite, has units worth nothing.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    usable = np.isfinite(norms) & (norms > 0.0)
    normalised = np.where(usable, vectors, 0.0) / np.where(usable, norms, 1.0)
    largest = np.abs(normalised).max(axis=1, keepdims=True)
    numbers = np.rint(normalised / np.where(usable, largest, 1.0) * _LARGEST).astype(np.int32) + _ZERO
    return (numbers >> 8).astype(np.uint8), (numbers & 255).astype(np.uint8), largest[:, 0] / np.float32(_LARGEST)


def from_fixed_point(high: Bytes, low: Bytes, scale: Any) -> Float32s:
    """Return the vector of such bytes, float32."""
    numbers = (high.astype(np.int32) << 8) + low - _ZERO
    return numbers.astype(np.float32) * scale


def to_codes(vectors: Float32s, padded: int) -> tuple[npt.NDArray[np.int8], Float32s]:
    """Return vectors [n, dim] as int8 [n, padded], and the worth of a unit [n]; 0 for a vector of zeros."""
    codes = np.zeros((len(vectors), padded), np.int8)
    units = np.abs(vectors).max(axis=1, initial=0.0) / np.float32(127)
    codes[:, : vectors.shape[1]] = np.rint(vectors / np.where(units > 0, units, 1)[:, np.newaxis])
    return codes, units
