"""The circuit breaker: a service that fails is left alone for a while, and then tried with one request.

Own code: what there is for asyncio counts exceptions of calls that it wraps. This one is told outcomes, waits
instead of raising, and knows for how long the service wants to be left alone.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from monitoring import metrics
from schemas.errors import AnnotatorUnavailable

log = logging.getLogger(__name__)


class Breaker:
    """Closed until `threshold` failures in a row; then open for `first_s` seconds, twice as long after each bad trial.

    `stop` opens it outright, for as long as the service said.
    """

    def __init__(self, threshold: int = 5, first_s: float = 0.5, most_s: float = 3.0) -> None:
        self._threshold = threshold
        self._first_s = first_s
        self._most_s = most_s
        self._failures = 0
        self._openings = 0
        self._until: float | None = None
        self._stopped = False
        self._reason = ""
        self._trial: asyncio.Task[bool] | None = None
        self.successes = 0

    @property
    def is_open(self) -> bool:
        """Whether only a trial may be made."""
        return self._until is not None

    async def ready(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        """Return when the service may be asked. While open, wait, and let `attempt` try the service, once for all.

        Raises:
            AnnotatorUnavailable: the attempt failed.

        """
        while self._until is not None:
            if self._trial is None:
                self._trial = asyncio.create_task(self._try(attempt))
            if not await asyncio.shield(self._trial):
                raise AnnotatorUnavailable(self._reason)

    def succeeded(self) -> None:
        """Note an answer; it closes the breaker, unless that was stopped after the request was made."""
        self.successes += 1
        self._failures = 0
        if not self._stopped:
            self._close()

    def failed(self, reason: str) -> None:
        """Note a failure of the service; open if it is one too many."""
        self._failures += 1
        if self._until is not None:
            self._reason = reason
        elif self._failures >= self._threshold:
            self._open("failures", reason)

    def stop(self, cause: str, reason: str, for_s: float) -> None:
        """Open for `for_s` seconds, whatever came before."""
        self._open(cause, reason, for_s)
        self._stopped = True

    async def close(self) -> None:
        """End a trial under way."""
        if self._trial is not None:
            self._trial.cancel()
            await asyncio.gather(self._trial, return_exceptions=True)

    async def _try(self, attempt: Callable[[], Awaitable[bool]]) -> bool:
        try:
            while (wait := (self._until or 0.0) - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(wait)
            if await attempt():
                self._close()
                return True
            if self._until is not None and self._until <= asyncio.get_running_loop().time():
                self._open("failures", self._reason)
            return False
        finally:
            self._trial = None

    def _close(self) -> None:
        if self._until is not None:
            log.info("the LLM answers again")
        self._until, self._openings, self._stopped = None, 0, False
        metrics.LLM_PAUSED_UNTIL.set(0)

    def _open(self, cause: str, reason: str, for_s: float | None = None) -> None:
        pause = min(self._first_s * 2**self._openings, self._most_s) if for_s is None else for_s
        until = asyncio.get_running_loop().time() + pause
        if self._until is not None and self._until >= until:
            return
        self._openings = min(self._openings + 1, 30)
        self._until, self._reason = until, reason
        metrics.LLM_PAUSES.labels(cause).inc()
        metrics.LLM_PAUSED_UNTIL.set(time.time() + pause)
        log.warning("the LLM is not asked for %.3g s: %s", pause, reason)
