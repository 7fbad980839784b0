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

    The pace is the price of the budget, followed by multiplicative steps (dual mirror descent, Balseiro, Lu & Mirrokni
    2020). A step changes it by a few percent, so it begins where the questions of the first minute would have kept to
    the target.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._began = clock()
        self._usd = 0.0
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

    def spent(self, usd: float, per_minute: float) -> None:
        """Note what was charged, and the dollars a minute that there are from now on."""
        self._usd += usd
        self._target = per_minute
        self._turn()

    def _turn(self) -> None:
        minutes = (self._clock() - self._began) / _MINUTE_S
        if minutes < 1:
            return
        spent, wanted = self._usd / minutes, self._wanted / minutes
        self._began, self._usd, self._wanted = self._clock(), 0.0, 0.0
        if not math.isfinite(self._target):
            self.pace = 0.0
        elif self.pace:
            self.pace *= math.exp(_STEP * (min(spent / self._target, 20.0) - 1)) if self._target else math.exp(_STEP)
        elif wanted > self._target and self._ratios:
            by_ratio = sorted(self._ratios, reverse=True)
            self.pace = max(by_ratio[min(int(self._target / wanted * len(by_ratio)), len(by_ratio) - 1)], 0.0)
        metrics.LLM_PACE.set(self.pace)
