"""The look at coarse codes is the same by whatever instructions the processor has for it."""

from typing import Any

import numba
import numpy as np
import pytest
from llvmlite import binding

from streams import intrinsics
from streams.coarse import write_coarse
from streams.intrinsics import CHUNK, LINED, above

LINES = 3
WAYS = ("avx512vnni", "avx2", "")


@pytest.mark.parametrize("dim", [CHUNK, 3 * CHUNK])
@pytest.mark.parametrize("queries", [1, 3, 4])
@pytest.mark.parametrize("way", WAYS)
def test_a_row_is_above_a_floor_where_numpy_says_so(
    way: str, queries: int, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way and not binding.get_host_cpu_features().get(way):
        pytest.skip(f"this processor has no {way}")
    monkeypatch.setattr(intrinsics, "_has", lambda feature: feature == way)
    rng = np.random.default_rng(queries)
    n = LINES * LINED
    high = rng.integers(256, size=(n, dim), dtype=np.uint8)
    high[0], high[1] = 255, 0  # the largest codes and the smallest
    coarse = np.zeros((LINES, LINED * dim // 2), np.uint8)
    write_coarse(coarse, np.arange(n), high, np.zeros_like(high))
    codes = rng.integers(-127, 128, size=(queries, dim)).astype(np.int8)
    codes[0, : dim // 2], codes[0, dim // 2 :] = 127, -127
    shifts, gains = rng.standard_normal((2, queries)).astype(np.float32)
    scales, tops = rng.random((2, n)).astype(np.float32)
    floors = (rng.standard_normal((2, 4)) * 500).astype(np.float32)

    @numba.njit
    def bits(line: Any, width: Any, many: Any) -> Any:
        return above(coarse, line, codes, shifts, floors, gains, scales, tops, width, many)

    levels = np.floor((256.0 * high - 32_768) * (7 / 32_767) + 0.5).astype(np.int64) + 8
    scores = ((levels @ codes.T.astype(np.int64)).astype(np.float32) + shifts) * scales[:, None]
    reached = scores + gains * tops[:, None], scores
    for line in range(LINES):
        rows = slice(line * LINED, (line + 1) * LINED)
        for found, of, floor in zip(bits(line, (0,) * (dim // CHUNK), (0,) * queries), reached, floors, strict=True):
            expected = (of[rows] > floor[:queries]).T.ravel()
            assert [bool(found >> bit & 1) for bit in range(queries * LINED)] == expected.tolist()
