"""What a request costs: prices of the published list, a bound before it is made, and a guess when nobody tells."""

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime

from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from models.llm_outcome import Usage
from schemas.errors import ConfigurationError

_REMEMBERED = 256
_MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """US dollars per token; without a price for input that the service had cached, it costs what all input costs."""

    input: float
    output: float
    cached: float | None = None

    def usd(self, usage: Usage) -> float:
        """Return the price of so many tokens."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.input_tokens - usage.cached_tokens
        return fresh * self.input + usage.cached_tokens * cached + usage.output_tokens * self.output


def price_of(model: str, stated: str = "") -> Price:
    """Return what `model` costs now: `stated`, as IN/OUT dollars per million tokens, or else what genai-prices says.

    The package carries its list; nothing is fetched. Prices that grow with the prompt are taken at this size: rubric
    and video together stay far below any step.

    Raises:
        ConfigurationError: `stated` is malformed, or the list has no such model.

    """
    if stated:
        try:
            into, out = (float(part) for part in stated.split("/"))
        except ValueError as error:
            raise ConfigurationError(
                f"VIBESTREAM_LLM_PRICE={stated!r}: expected dollars per million tokens, input/output, such as 0.30/2.50"
            ) from error
        return Price(into / _MILLION, out / _MILLION)
    thousand = PricedUsage(input_tokens=1_000, output_tokens=1_000)
    thousand_cached = PricedUsage(input_tokens=1_000, cache_read_tokens=1_000)
    name, now = model.rpartition("/")[2], datetime.now(UTC)
    try:
        found, again = (
            calc_price(usage, name, provider_id="google", genai_request_timestamp=now)
            for usage in (thousand, thousand_cached)
        )
    except LookupError as error:
        raise ConfigurationError(
            f"VIBESTREAM_GEMINI_MODEL={model!r}: its price is not known; set VIBESTREAM_LLM_PRICE to the dollars per"
            " million tokens, input/output, such as 0.30/2.50"
        ) from error
    return Price(*(float(usd) / 1_000 for usd in (found.input_price, found.output_price, again.input_price)))


class Estimate:
    """Guesses a request's tokens from the requests before it: the most of the last ones, in proportion.

    Used where a request may have been billed and nobody told us: it timed out, or the connection broke.
    """

    def __init__(self) -> None:
        self._input_shares: deque[float] = deque(maxlen=_REMEMBERED)
        self._outputs: deque[int] = deque(maxlen=_REMEMBERED)

    def observe(self, most: Usage, used: Usage) -> None:
        """Learn from a request that was billed; `most` is its bound."""
        self._input_shares.append(used.input_tokens / most.input_tokens)
        self._outputs.append(used.output_tokens)

    def likely(self, most: Usage) -> Usage:
        """Return the guess; the bound itself as long as nothing was observed."""
        if not self._outputs:
            return most
        return Usage(
            round(min(max(self._input_shares), 1.0) * most.input_tokens), min(max(self._outputs), most.output_tokens)
        )
