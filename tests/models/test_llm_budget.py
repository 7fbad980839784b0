"""Money: reserved before, settled after, alarms in between, and where it goes when it is short."""

import asyncio
import logging
import math
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from models.llm_budget import Budget, Reservation
from models.llm_cache import merge
from models.llm_cost import Price, price_of
from models.llm_outcome import Usage
from models.llm_pacing import Pacing
from models.llm_state import Limits, LlmState
from schemas.errors import ConfigurationError
from tests.models.test_llm_state import Clock

DOLLAR = Usage(1, 0)


@pytest.fixture
async def budget(tmp_path: Path):
    clock = Clock()
    state = LlmState(tmp_path, merge, clock)
    yield Budget(state, Price(1.0, 1.0), Limits(usd_per_day=10.0, usd_per_hour=4.0), clock)
    await state.close()


async def spend(budget: Budget, usage: Usage) -> None:
    reservation = await budget.reserve(usage)
    assert reservation is not None
    await budget.settle(reservation, usage, {})


def alarms(percent: int) -> float:
    labels = {"window": "hour", "percent": str(percent)}
    return REGISTRY.get_sample_value("vibestream_llm_budget_alarms_total", labels) or 0.0


async def test_a_request_that_could_overdraw_the_hour_is_refused(budget: Budget):
    await spend(budget, Usage(3, 0))
    assert await budget.reserve(Usage(1, 1)) is None
    assert await budget.reserve(DOLLAR) is not None


async def test_a_request_waits_for_those_under_way_rather_than_being_refused(budget: Budget):
    first = await budget.reserve(Usage(3, 0))
    assert isinstance(first, Reservation)
    second = asyncio.create_task(budget.reserve(Usage(2, 0)))
    done, _ = await asyncio.wait([second], timeout=0.05)
    assert not done
    await budget.settle(first, DOLLAR, {})
    assert await second is not None


async def test_alarms_at_half_at_most_and_at_all_of_it_once_each(budget: Budget, caplog: pytest.LogCaptureFixture):
    before = [alarms(percent) for percent in (50, 80, 100)]
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            await spend(budget, DOLLAR)
        for _ in range(2):
            assert await budget.reserve(DOLLAR) is None
    assert [alarms(percent) for percent in (50, 80, 100)] == [count + 1 for count in before]
    hourly = [record.getMessage() for record in caplog.records if "for the hour" in record.getMessage()]
    assert [message.split(" ")[0] for message in hourly] == ["50", "80", "100"]
    assert "student decides alone" in hourly[-1]


async def test_what_nobody_tells_is_charged_like_the_dearest_of_the_last_requests(budget: Budget):
    for used in (Usage(10, 1), Usage(20, 3)):
        budget.estimate.observe(Usage(100, 50), used)
    assert budget.estimate.likely(Usage(200, 50)) == Usage(40, 3)


def test_prices_are_those_of_the_published_list_or_stated():
    known = price_of("gemini-2.5-flash")
    assert 0 < known.input < known.output < 1e-4
    assert price_of("models/gemini-2.5-flash") == known
    assert price_of("anything", "0.5/2").usd(Usage(1_000_000, 1_000_000)) == pytest.approx(2.5)
    with pytest.raises(ConfigurationError, match="'gemini-99'.*VIBESTREAM_LLM_PRICE"):
        price_of("gemini-99")
    with pytest.raises(ConfigurationError, match="VIBESTREAM_LLM_PRICE='dear'"):
        price_of("anything", "dear")


def minute(clock: Clock, per_minute: float, spent: float, *pacings: Pacing) -> tuple[int, float]:
    """Ask each worker a hundred questions of a dollar, gains 0.01 to 1; return how many are asked and the sum."""
    count = 0
    for pacing in pacings:
        asked = [gain for gain in range(1, 101) if pacing.worth(gain / 100, 1.0)]
        assert asked == list(range(101 - len(asked), 101)), "the ones that change most"
        count += len(asked)
    for _ in range(max(count // len(pacings), 1)):
        for pacing in pacings:
            spent += 1.0
            pacing.spent(1.0, spent, per_minute)
    clock.now += 60
    return count, spent


@pytest.mark.parametrize("workers", [1, 3])
def test_with_money_for_a_third_the_third_that_changes_most_is_asked_by_all_workers_together(workers: int):
    clock, spent, asked = Clock(), 0.0, list[int]()
    pacings = [Pacing(clock) for _ in range(workers)]
    for _ in range(60):
        count, spent = minute(clock, workers * 100 / 3, spent, *pacings)
        asked.append(count)
    assert asked[0] == 100 * workers
    assert all(25 * workers <= count <= 45 * workers for count in asked[1:])
    assert asked[-1] == pytest.approx(workers * 100 / 3, abs=2 * workers)


def test_with_money_enough_or_no_limit_all_are_asked():
    for per_minute in (math.inf, 150.0):
        clock, spent = Clock(), 0.0
        pacing = Pacing(clock)
        for _ in range(5):
            count, spent = minute(clock, per_minute, spent, pacing)
            assert count == 100


def test_a_worker_that_comes_late_and_a_new_day_are_no_reason_to_stop():
    clock = Clock()
    pacing = Pacing(clock)
    clock.now += 90
    assert pacing.worth(0.1, 1.0)
    count, _ = minute(clock, 150.0, 5_000.0, pacing)
    assert count == 100
    count, _ = minute(clock, 150.0, 0.0, pacing)
    assert count == 100
