"""Sound as 64 numbers: mean and spread of 32 log-mel bands over time (Davis and Mermelstein 1980, no cosine)."""

import numpy as np
from numpy.typing import NDArray

from models.media.decode import SOUND_HZ

DIM = 64
_BANDS = DIM // 2
_WINDOW, _HOP, _POINTS = 400, 160, 512
_LEAST = 1e-6


def sound_vector(samples: NDArray[np.int16]) -> NDArray[np.float32] | None:
    """Return [DIM] for mono samples at `SOUND_HZ`; None where there are too few to say anything, under 25 ms."""
    if len(samples) < _WINDOW:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32) / 2**15, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW).astype(np.float32), _POINTS, axis=1)) ** 2
    bands = np.log(power @ _filters().T + _LEAST)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0)]).astype(np.float32)


def _filters() -> NDArray[np.float64]:
    """Triangles [bands, points / 2 + 1] at even distances on the mel scale, from 0 to half the rate."""
    top = 2595 * np.log10(1 + SOUND_HZ / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1)
    points = np.arange(_POINTS // 2 + 1) * SOUND_HZ / _POINTS
    rising = (points - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - points) / (corners[2:] - corners[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, None)
