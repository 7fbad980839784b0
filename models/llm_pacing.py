"""Where the money goes when it is short: to the questions whose answers are expected to change most per dollar."""

import math
from collections import deque
from collections.abc import Callable

from monitoring import metrics

_MINUTE_S = 60.0
_STEP = 0.05
_REMEMBERED = 2_000


class Pacing:
    """Asks question i if gain_i > pace * cost_i; each minute pace *= exp(.05 (spent / target - 1)).

    `spent` is what all workers of the budget spent together; each follows it by itself. The pace is the price of the
    budget, followed by multiplicative steps (dual mirror descent, Balseiro, Lu & Mirrokni 2020). A step changes it by a
    few percent, so it begins where the questions of the first minute would have kept to the target.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._began = clock()
        self._usd = self._of_all = 0.0
        self._of_all_before: float | None = None
        self._target = math.inf
        self._ratios: deque[float] = deque(maxlen=_REMEMBERED)
        self._wanted = 0.0
        self.pace = 0.0

    def worth(self, gain: float, usd: float) -> bool:
        """Tell whether a question with this expected gain is worth its price now."""
        self._turn()
        if not usd:
            return True
        if math.isfinite(gain):
            self._ratios.append(gain / usd)
            self._wanted += usd
        return gain > self.pace * usd or not self.pace

    def spent(self, usd: float, of_all: float, per_minute: float) -> None:
        """Note what was charged here, by all workers since the day began, and the dollars a minute from now on."""
        if self._of_all_before is None:  # what was spent before we came is not of our minute
            self._of_all_before = of_all - usd
        self._usd += usd
        self._of_all = of_all
        self._target = per_minute
        self._turn()

    def _turn(self) -> None:
        minutes = (self._clock() - self._began) / _MINUTE_S
        if minutes < 1:
            return
        since = self._of_all - (self._of_all_before or 0.0)
        of_all = max(since if since >= 0 else self._of_all, self._usd)  # below 0: another day has begun
        others = of_all / self._usd if self._usd else 1.0  # they are taken to want as much of what they see
        spent, wanted = of_all / minutes, self._wanted * others / minutes
        self._began, self._usd, self._wanted = self._clock(), 0.0, 0.0
        if self._of_all_before is not None:
            self._of_all_before = self._of_all
        if not math.isfinite(self._target):
            self.pace = 0.0
        elif self.pace:
            self.pace *= math.exp(_STEP * (min(spent / self._target, 20.0) - 1)) if self._target else math.exp(_STEP)
        elif wanted > self._target and self._ratios:
            by_ratio = sorted(self._ratios, reverse=True)
            self.pace = max(by_ratio[min(int(self._target / wanted * len(by_ratio)), len(by_ratio) - 1)], 0.0)
        metrics.LLM_PACE.set(self.pace)
