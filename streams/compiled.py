"""Functions that numba compiles to machine code: no GIL while they run, no Python objects in them."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import ParamSpec, TypeVar

import numba
from numba.core import config

P = ParamSpec("P")
R = TypeVar("R")

_CALLED = ("compiled", "intrinsics", "coarse", "heaps", "scan", "sorting")
_FOLDER = "CACHE_DIR"  # of numba's settings, which exist only as it runs


def _keep_code() -> bool:
    """Have compiled code kept in the user's cache folder: it takes seconds to make and tens of milliseconds to read.

    numba makes it anew when its source file or the processor is another; what it calls from other files it can't see,
    so those files have a part in the folder's name. Without a folder to write to, every process compiles for itself.
    """
    if getattr(config, _FOLDER):  # the user has chosen one
        return True
    try:
        sources = b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in _CALLED)
        folder = Path.home() / ".cache" / "vibestream" / f"code-{sha256(sources).hexdigest()[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):
        return False
    setattr(config, _FOLDER, str(folder))
    return True


_KEPT = _keep_code()


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` at its first call for the types that it is called with."""
    return numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"}, cache=_KEPT)(function)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` into those that call it: where arrays are handed over for little work, a call costs most."""
    return numba.njit(inline="always", nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})(function)
