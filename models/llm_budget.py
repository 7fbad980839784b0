"""Money for the LLM: reserved before a request, settled after it, and never more than the budget."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.llm_cost import Estimate, Price
from models.llm_outcome import Usage
from models.llm_pacing import Pacing
from models.llm_state import REQUEST_TERM_S, Limits, LlmMemory, Spending
from monitoring import metrics

log = logging.getLogger(__name__)

_ALARMS = (50, 80, 100)
_HOUR_S, _DAY_S = 3_600.0, 86_400.0
# Requests of another worker settle without telling us.
_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class Reservation:
    """Money that is set aside for one request."""

    id: int
    most: Usage


class Budget:
    """Sets the worst case aside before a request, so that no sum of requests under way can overdraw it.

    Alarms at 50, 80 and 100 % (a request was refused) of each window go to the log and to metrics.
    """

    def __init__(
        self, state: LlmMemory, price: Price, limits: Limits | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` gives epoch seconds."""
        self.price = price
        self.estimate = Estimate()
        self._state = state
        self._limits = limits or Limits()
        self._clock = clock
        self._settled = asyncio.Event()
        self._alarmed: dict[str, tuple[float, int]] = {}
        self.pacing = Pacing(clock)

    async def reserve(self, most: Usage, term_s: float = REQUEST_TERM_S) -> Reservation | None:
        """Set aside what the request costs at most; None if the budget of this hour or day does not have it.

        If nobody settles it within `term_s` seconds, what was likely is charged until somebody does. Where only the
        reservations of requests under way are in its way, wait for them.
        """
        worst, likely = self.price.usd(most), self.price.usd(self.estimate.likely(most))
        while True:
            self._settled.clear()
            reserved = await self._state.reserve(worst, likely, self._limits, term_s)
            if isinstance(reserved, int):
                return Reservation(reserved, most)
            if self._limits.left(reserved) < worst:
                self._alarm(reserved, refused=True)
                return None
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._settled.wait()
            except TimeoutError:
                continue

    async def settle(self, reservation: Reservation, usage: Usage | None, answers: Mapping[bytes, bytes]) -> None:
        """Charge a request (with a guess if `usage` is None) and keep its answers, both or neither."""
        if usage is None:
            billed = self.estimate.likely(reservation.most)
        else:
            billed = usage
            if usage.input_tokens:
                self.estimate.observe(reservation.most, usage)
        usd = self.price.usd(billed)
        spending = await self._state.settle(reservation.id, usd, billed, answers)
        metrics.LLM_USD.inc(usd)
        self._settled.set()
        self._alarm(spending, refused=False)
        self.pacing.spent(usd, spending.day, self.per_minute(spending))

    async def release(self, reservation: Reservation) -> None:
        """Give back what was set aside for a request that was not made."""
        await self._state.release(reservation.id)
        self._settled.set()

    def per_minute(self, spending: Spending) -> float:
        """Return the dollars a minute that would use up the rest of hour and day; infinity without a limit."""
        now = self._clock()
        minutes_left = [(length - now % length) / 60 for length in (_HOUR_S, _DAY_S)]
        left = (self._limits.usd_per_hour - spending.hour, self._limits.usd_per_day - spending.day)
        return max(0.0, min(usd / minutes for usd, minutes in zip(left, minutes_left, strict=True)))

    def _alarm(self, spending: Spending, *, refused: bool) -> None:
        now = self._clock()
        windows = (
            ("hour", spending.hour, self._limits.usd_per_hour, now // _HOUR_S),
            ("day", spending.day, self._limits.usd_per_day, now // _DAY_S),
        )
        short = min(windows, key=lambda window: window[2] - window[1])[0]
        for name, usd, limit, window in windows:
            share = usd / limit if limit else 1.0
            metrics.LLM_BUDGET_USED.labels(name).set(share)
            reached = 100 if refused and name == short else max((p for p in _ALARMS[:2] if share * 100 >= p), default=0)
            since, before = self._alarmed.get(name, (window, 0))
            before = before if since == window else 0
            self._alarmed[name] = (window, max(before, reached))
            for percent in _ALARMS:
                if before < percent <= reached:
                    metrics.LLM_BUDGET_ALARMS.labels(name, str(percent)).inc()
                    log.warning(
                        "%d %% of the LLM's budget for the %s is spent: %.4f of %.2f USD%s", percent, name, usd, limit,
                        "; until it ends the student decides alone, without guarantee" if percent == 100 else "",
                    )  # fmt: skip
