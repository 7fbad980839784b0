"""The fake's own accounts: what it billed, whose quota was exceeded, and what it answered."""

import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field

WINDOW_S = 60.0


@dataclass
class Ledger:
    """Prices are US dollars per token; quotas count arrivals in any 60 seconds."""

    input_price: float = 0.30e-6
    output_price: float = 2.50e-6
    cached_price: float = 0.03e-6
    requests_per_minute: float = float("inf")
    tokens_per_minute: float = float("inf")
    usd: float = 0.0
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    quota_exceeded: int = 0
    answered: Counter[str] = field(default_factory=Counter[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    most_in_window: int = 0
    _arrivals: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    _tokens_in_window: int = 0

    def arrived(self, tokens: int) -> bool:
        """Count a request; tell whether it is within the quotas."""
        now = time.monotonic()
        self.requests += 1
        while self._arrivals and self._arrivals[0][0] <= now - WINDOW_S:
            self._tokens_in_window -= self._arrivals.popleft()[1]
        self._arrivals.append((now, tokens))
        self._tokens_in_window += tokens
        self.most_in_window = max(self.most_in_window, len(self._arrivals))
        within = len(self._arrivals) <= self.requests_per_minute and self._tokens_in_window <= self.tokens_per_minute
        self.quota_exceeded += not within
        return within

    def bill(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> None:
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        fresh = (input_tokens - cached_tokens) * self.input_price
        self.usd += fresh + cached_tokens * self.cached_price + output_tokens * self.output_price


@dataclass
class Faults:
    """Which shares of the requests fail, by mode; the same seed fails alike."""

    shares: dict[str, float] = field(default_factory=dict[str, float])
    seed: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def next(self) -> str:
        at = self._chance.random()
        for mode, share in self.shares.items():
            if at < share:
                return mode
            at -= share
        return "ok"
