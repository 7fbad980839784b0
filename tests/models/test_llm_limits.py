"""Windows, concurrency and the circuit breaker, against a service that counts for itself."""

import asyncio
import random

import pytest

from models.llm_breaker import Breaker
from models.llm_limits import Concurrency, Window
from schemas.errors import AnnotatorUnavailable


async def test_no_window_of_the_service_ever_holds_more_than_the_limit():
    period, limit = 0.2, 10
    window, chance, arrivals = Window(limit, period), random.Random(3), list[float]()

    async def request() -> None:
        taken = await window.take(1)
        await asyncio.sleep(chance.uniform(0, 0.05))  # on its way
        arrivals.append(asyncio.get_running_loop().time())
        await asyncio.sleep(chance.uniform(0, 0.05))
        await window.end(taken, 1)

    await asyncio.gather(*(request() for _ in range(45)))
    arrivals.sort()
    assert all(later - earlier > period for earlier, later in zip(arrivals, arrivals[limit:], strict=False))


async def test_units_that_were_not_used_are_free_again_at_once():
    window = Window(100, 60)
    await window.end(await window.take(90), 10)
    async with asyncio.timeout(1):
        assert (await window.take(90)).units == 90


async def test_a_request_larger_than_the_limit_takes_all_of_it_instead_of_waiting_for_ever():
    async with asyncio.timeout(1):
        assert (await Window(5, 60).take(9)).units == 5


async def test_concurrency_grows_with_answers_and_halves_once_per_overload():
    places = Concurrency(16, first=4)

    async def round_(count: int, *, overloaded: bool) -> int:
        """Enter as many as may; return how many that were."""
        entered: list[float] = []
        try:
            for _ in range(count):
                async with asyncio.timeout(0.02):
                    entered.append(await places.enter())
        except TimeoutError:
            pass
        for at in entered:
            places.leave(at, good=not overloaded, overloaded=overloaded)
        return len(entered)

    assert await round_(100, overloaded=False) == 4
    assert await round_(100, overloaded=True) == 4
    assert await round_(100, overloaded=False) == 2, "one overload, though four requests saw it"
    for _ in range(40):
        await round_(20, overloaded=False)
    assert await round_(100, overloaded=False) == 16


async def test_whoever_gives_up_waiting_takes_no_place():
    places = Concurrency(1)
    entered = await places.enter()
    waiting = asyncio.create_task(places.enter())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    places.leave(entered, good=True, overloaded=False)
    async with asyncio.timeout(1):
        await places.enter()


async def test_an_open_breaker_lets_one_trial_through_for_all_who_wait():
    breaker = Breaker(threshold=2, first_s=0.01, most_s=0.02)
    tried: list[bool] = []

    async def attempt(well: bool) -> bool:
        tried.append(well)
        return well

    breaker.failed("down")
    await breaker.ready(lambda: attempt(False))
    assert tried == []
    breaker.failed("down")
    waiting = [breaker.ready(lambda: attempt(False)) for _ in range(10)]
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in ended] == [AnnotatorUnavailable] * 10
    assert tried == [False]
    await asyncio.gather(*(breaker.ready(lambda: attempt(True)) for _ in range(10)))
    assert tried == [False, True]
    assert not breaker.is_open


async def test_a_success_between_failures_keeps_the_breaker_closed():
    breaker = Breaker(threshold=2)
    for _ in range(5):
        breaker.failed("flaky")
        breaker.succeeded()
    assert not breaker.is_open


async def test_a_breaker_that_was_stopped_stays_open_for_that_long():
    breaker = Breaker()
    breaker.stop("quota", "daily quota", 60)
    breaker.failed("another")
    breaker.succeeded()  # a request from before

    async def attempt() -> bool:
        raise AssertionError("too early")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await breaker.ready(attempt)
    await breaker.close()


async def test_a_stopped_breaker_closes_when_a_trial_succeeds():
    breaker = Breaker()
    breaker.stop("quota", "daily quota", 0.01)

    async def attempt() -> bool:
        return True

    await breaker.ready(attempt)
    assert not breaker.is_open
