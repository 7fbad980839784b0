import asyncio
import ctypes
import time
from pathlib import Path

import pytest

from topology.memory import give_back_regularly

BLOCK = 4_000  # bytes, so that the C library allocates it and not Python
BLOCKS = 25_000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc gives back on request")
async def test_what_was_freed_between_blocks_in_use_goes_back_to_the_system() -> None:
    blocks = [bytes(BLOCK) for _ in range(BLOCKS)]
    full = resident_bytes()
    kept = blocks[::50]
    del blocks
    giving = asyncio.create_task(give_back_regularly(0.01))
    deadline = time.monotonic() + 20
    while resident_bytes() > full - BLOCK * BLOCKS // 2:
        assert time.monotonic() < deadline, f"{full - resident_bytes()} of {BLOCK * BLOCKS} bytes were given back"
        await asyncio.sleep(0.05)
    giving.cancel()
    assert len(kept) == BLOCKS // 50
