"""What the C library keeps of freed memory."""

import ctypes


def give_back() -> None:
    """Return freed memory to the system, where the C library can be asked to (glibc): what has grown leaves holes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
