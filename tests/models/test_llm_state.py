"""Answers and money on disk: what is kept, what is summed, and what a killed process leaves behind."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.llm_outcome import Usage
from models.llm_state import Limits, LlmState, Spending
from schemas.errors import ConfigurationError

Open = Callable[[], LlmState]


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000 * 3_600.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Open:
    return lambda: LlmState(tmp_path, lambda known, new: known + new, clock)


async def reserve(state: LlmState, most: float, likely: float) -> int:
    reservation = await state.reserve(most, likely, Limits())
    assert isinstance(reservation, int)
    return reservation


async def test_answers_are_kept_and_joined_with_what_was_there(opened: Open):
    state = opened()
    first = await reserve(state, 1, 1)
    await state.settle(first, 0.5, Usage(1, 1), {b"a": b"1", b"b": b"1"})
    await state.keep({b"a": b"2"})
    await state.close()
    again = opened()
    assert await again.look_up([b"a", b"b", b"c"]) == {b"a": b"12", b"b": b"1"}
    await again.close()


async def test_the_hour_and_the_day_are_sums_of_their_own(opened: Open, clock: Clock):
    state = opened()
    clock.now -= clock.now % 86_400
    for step, usd in ((0, 1.0), (3_600, 2.0), (20 * 3_600, 4.0), (3 * 3_600, 8.0)):
        clock.now += step
        await state.settle(await reserve(state, usd, usd), usd, Usage(1, 1), {})
    assert await state.spending() == Spending(8.0, 8.0, 0.0), "the last one fell into the next day"
    clock.now -= 3 * 3_600
    assert await state.spending() == Spending(4.0, 7.0, 0.0)
    await state.close()


async def test_what_a_killed_process_had_reserved_counts_in_full_and_later_as_it_was_likely(opened: Open, clock: Clock):
    killed = opened()
    await reserve(killed, 5.0, 2.0)
    other = opened()
    assert (await other.spending()).reserved == 5.0
    clock.now += 1_000
    assert (await other.spending()).reserved == 2.0
    late = opened()
    assert await late.spending() == Spending(2.0, 2.0, 0.0)
    for state in (killed, other, late):
        await state.close()


async def test_a_bill_that_comes_late_takes_the_place_of_the_guess(opened: Open, clock: Clock):
    first = opened()
    guessed, unmade = await reserve(first, 5.0, 2.0), await reserve(first, 5.0, 3.0)
    clock.now += 1_000
    late = opened()  # charges what is overdue
    assert await late.charged() == (5.0, 2)
    await late.settle(guessed, 4.0, Usage(7, 8), {b"a": b"1"})
    await late.release(unmade)
    await late.settle(guessed, 4.0, Usage(7, 8), {b"a": b"2"})
    assert await late.charged() == (4.0, 1)
    assert await late.look_up([b"a"]) == {b"a": b"12"}
    await first.close()
    await late.close()


async def test_a_reservation_lasts_as_long_as_it_was_made_for(opened: Open, clock: Clock):
    state = opened()
    assert isinstance(await state.reserve(5.0, 2.0, Limits(), term_s=90_000.0), int)
    clock.now += 80_000
    again = opened()
    assert await again.spending() == Spending(0.0, 0.0, 5.0)
    assert await again.charged() == (0.0, 0)
    await state.close()
    await again.close()


async def test_a_reservation_that_is_refused_or_released_leaves_nothing(opened: Open):
    state = opened()
    assert await state.reserve(1.0, 1.0, Limits(0.5)) == Spending(0.0, 0.0, 0.0)
    await state.release(await reserve(state, 1.0, 1.0))
    assert await state.spending() == Spending(0.0, 0.0, 0.0)
    await state.close()


async def test_what_was_settled_survives_a_process_that_is_killed(tmp_path: Path):
    code = f"""
import asyncio, os, signal
from pathlib import Path
from models.llm_outcome import Usage
from models.llm_state import Limits, LlmState
async def main():
    state = LlmState(Path({str(tmp_path)!r}), lambda known, new: new)
    for i in range(50):
        await state.settle(await state.reserve(1.0, 1.0, Limits()), 0.5, Usage(1, 1), {{b"%d" % i: b"x"}})
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    state = LlmState(tmp_path, lambda known, new: new)
    assert len(await state.look_up([b"%d" % i for i in range(50)])) == 50
    assert await state.charged() == (25.0, 50)
    await state.close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="VIBESTREAM_LLM_STATE"):
        LlmState(tmp_path / "file", lambda known, new: new)
    (tmp_path / "llm.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigurationError, match="VIBESTREAM_LLM_STATE"):
        LlmState(tmp_path, lambda known, new: new)
