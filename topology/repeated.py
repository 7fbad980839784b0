"""What a library says over and over is logged now and then, with how often it was said.

While a broker is away, aiokafka logs sixty errors a second.
"""

import logging
import time
from collections.abc import Callable

_EVERY_S = 10.0
_TALKATIVE = "aiokafka"


class Seldom(logging.Filter):
    """Lets each kind of message of a talkative library through once in `every_s` seconds; all of others."""

    def __init__(self, every_s: float = _EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s = every_s
        self._clock = clock
        self._last_s: dict[tuple[str, str], float] = {}
        self._left_out: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log; what was left out since is added to the message."""
        if record.name.partition(".")[0] != _TALKATIVE:
            return True
        kind, now = (record.name, str(record.msg)), self._clock()
        if kind in self._last_s and now - self._last_s[kind] < self._every_s:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return False
        self._last_s[kind] = now
        left_out = self._left_out.pop(kind, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more since the last of these)", None
        return True


def log_seldom() -> None:
    """Have it so for all that is logged from now on."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(Seldom())
