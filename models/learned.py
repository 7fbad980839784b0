"""Which texts a trunk has learned, so that no later student on it is calibrated or certified on them.

A file beside the model holds four bytes of a hash for each. Of a million other texts some ten are taken for learned by
mistake, which only keeps them from certifying.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Prints = NDArray[np.uint32]
"""Sorted, without repetition."""

_BYTES = np.dtype("<u4")


def fingerprints(texts: Sequence[str]) -> Prints:
    """Return the fingerprints of texts."""
    return np.unique(_prints(texts))


def among(texts: Sequence[str], prints: Prints) -> NDArray[np.bool_]:
    """Tell which of the texts have a fingerprint among `prints`."""
    return np.isin(_prints(texts), prints)


def packed(prints: Prints) -> bytes:
    """Return the content of the file."""
    return prints.astype(_BYTES).tobytes()


def unpacked(content: bytes) -> Prints:
    """Return the fingerprints in the content of the file."""
    return np.frombuffer(content, _BYTES).astype(np.uint32)


def _prints(texts: Sequence[str]) -> Prints:
    found = b"".join(blake2b(text.encode(), digest_size=_BYTES.itemsize).digest() for text in texts)
    return np.frombuffer(found, _BYTES).astype(np.uint32)
