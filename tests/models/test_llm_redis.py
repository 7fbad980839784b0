"""Answers, money and limits in a real Redis, shared by workers that know nothing of each other."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from models.annotator import Answered, Question, Verdict
from models.gemini import ApiKey, Gemini
from models.llm_annotator import LlmAnnotator, Pace, RateLimits
from models.llm_budget import Budget
from models.llm_cache import merge
from models.llm_cost import price_of
from models.llm_outcome import Usage
from models.llm_redis import connect
from models.llm_redis_memory import RedisMemory
from models.llm_redis_window import SharedWindow
from models.llm_state import Limits, Spending
from schemas.attributes import load_catalogue
from schemas.errors import AnnotatorUnavailable, ConfigurationError
from schemas.events import VideoUpload
from tests.fakes.gemini_server import gemini_server
from tests.models.test_llm_state import Clock
from tests.redis_server import MISSING, PASSWORD, redis_server
from topology.llm import make_llm
from topology.settings import Settings

pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def two(server: str, clock: Clock) -> AsyncIterator[tuple[RedisMemory, RedisMemory]]:
    """The memories of two workers."""
    prefix = f"{random.random()}."
    one, other = (RedisMemory(connect(server), lambda known, new: known + new, prefix, clock=clock) for _ in range(2))
    yield one, other
    await one.close()
    await other.close()


async def reserved(memory: RedisMemory, most: float, likely: float, term_s: float = 900.0) -> int:
    reservation = await memory.reserve(most, likely, Limits(), term_s)
    assert isinstance(reservation, int)
    return reservation


async def test_what_one_worker_was_answered_the_other_knows_and_answers_are_joined(two):
    one, other = two
    await one.settle(await reserved(one, 1, 1), 0.5, Usage(1, 1), {b"a": b"1", b"b": b"1"})
    await asyncio.gather(*(worker.keep({b"a": b"2"}) for worker in (one, other) for _ in range(10)))
    assert await other.look_up([b"a", b"b", b"c"]) == {b"a": b"1" + b"2" * 20, b"b": b"1"}
    assert await other.look_up([]) == {}


async def test_two_workers_never_reserve_more_than_there_is(two):
    async def spend(worker: RedisMemory) -> float:
        reservation = await worker.reserve(0.7, 0.5, Limits(usd_per_day=10.0))
        if isinstance(reservation, Spending):
            return 0.0
        await asyncio.sleep(0)
        await worker.settle(reservation, 0.6, Usage(1, 1), {})
        return 0.6

    spent = sum(await asyncio.gather(*(spend(worker) for worker in two for _ in range(40))))
    assert 0 < spent <= 10.0
    usd, _ = await two[0].charged()
    assert usd == pytest.approx(spent)
    assert await two[1].spending() == Spending(pytest.approx(spent), pytest.approx(spent), 0.0)


async def test_the_hour_and_the_day_are_sums_of_their_own(two, clock: Clock):
    clock.now -= clock.now % 86_400
    for step, usd in ((0, 1.0), (3_600, 2.0), (20 * 3_600, 4.0), (3 * 3_600, 8.0)):
        clock.now += step
        await two[0].settle(await reserved(two[0], usd, usd), usd, Usage(1, 1), {})
    assert await two[1].spending() == Spending(8.0, 8.0, 0.0), "the last one fell into the next day"
    clock.now -= 3 * 3_600
    assert await two[1].spending() == Spending(4.0, 7.0, 0.0)


async def test_what_a_killed_worker_had_reserved_counts_in_full_then_as_it_was_likely_and_at_last_as_billed(
    two, clock: Clock
):
    killed, other = two
    guessed, unmade = await reserved(killed, 5.0, 2.0), await reserved(killed, 5.0, 3.0)
    await reserved(killed, 7.0, 1.0, term_s=90_000.0)
    assert (await other.spending()).reserved == 17.0
    clock.now += 1_000
    assert await other.spending() == Spending(5.0, 5.0, 7.0)
    assert await other.charged() == (5.0, 2)
    for _ in range(2):
        await other.settle(guessed, 4.0, Usage(7, 8), {})
        await other.release(unmade)
    assert await other.charged() == (4.0, 1)


async def test_no_minute_of_all_workers_together_ever_holds_more_than_the_limit(server: str):
    period, limit, name = 0.5, 10, f"{random.random()}"
    clients = [connect(server) for _ in range(2)]
    windows = [SharedWindow(client, name, limit, 5.0, period) for client in clients]
    chance, arrivals = random.Random(3), list[float]()

    async def request(window: SharedWindow) -> None:
        taken = await window.take(1)
        await asyncio.sleep(chance.uniform(0, 0.05))  # on its way
        arrivals.append(asyncio.get_running_loop().time())
        await asyncio.sleep(chance.uniform(0, 0.05))
        await window.end(taken, 1)

    await asyncio.gather(*(request(window) for window in windows for _ in range(20)))
    arrivals.sort()
    assert len(arrivals) == 40
    assert all(later - earlier > period for earlier, later in zip(arrivals, arrivals[limit:], strict=False))
    for client in clients:
        await client.aclose()


async def test_unused_units_come_back_at_once_those_of_the_dead_after_their_lease_and_a_hold_is_everybodys(server: str):
    client, name = connect(server), f"{random.random()}"
    one, other = (SharedWindow(client, name, 100, 0.2, period_s=0.1) for _ in range(2))
    await one.end(await one.take(90), 10)
    dead = await other.take(90)
    assert dead.units == 90
    started = asyncio.get_running_loop().time()
    async with asyncio.timeout(20):
        assert (await one.take(1_000)).units == 100
    assert asyncio.get_running_loop().time() - started >= 0.2
    await one.hold(0.3)
    started = asyncio.get_running_loop().time()
    async with asyncio.timeout(20):
        await other.take(1)
    assert asyncio.get_running_loop().time() - started >= 0.29
    await client.aclose()


async def test_two_workers_pay_once_keep_to_one_budget_and_to_one_quota(server: str):
    """The second of two annotators, on another machine as far as it can tell, asks nothing that the first one asked."""
    catalogue, model = load_catalogue(), "gemini-2.5-flash"
    prefix = f"{random.random()}."
    async with gemini_server() as fake:
        fake.ledger.requests_per_minute = 30
        annotators = []
        for _ in range(2):
            client = connect(server)
            memory = RedisMemory(client, merge, prefix)
            gemini = Gemini(catalogue, ApiKey("key"), model=model, base_url=fake.url)
            limits = RateLimits(
                SharedWindow(client, f"{prefix}requests", 30, 60.0), SharedWindow(client, f"{prefix}tokens", 1e6, 60.0)
            )
            budget = Budget(memory, price_of(model), Limits(usd_per_day=1.0))
            pace = Pace(items_per_request=1)
            annotators.append(LlmAnnotator(gemini, catalogue, memory, budget, pace=pace, limits=limits))
        questions = [
            Question(
                VideoUpload(schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=0, title=f"funny {i}"),
                ("funny",),
            )
            for i in range(20)
        ]
        for annotator in annotators:
            assert await annotator.annotate(questions) == [Answered({"funny": Verdict(True, "funny")})] * 20
        usd, requests = await memory.charged()
        for annotator in annotators:
            await annotator.close()
    assert (requests, fake.ledger.requests, fake.ledger.quota_exceeded) == (20, 20, 0)
    assert usd == pytest.approx(fake.ledger.usd, rel=1e-6)


async def test_a_redis_that_comes_back_has_kept_what_was_paid(tmp_path: Path):
    with redis_server(tmp_path, "--appendfsync", "always") as url:
        memory = RedisMemory(connect(url), merge)
        await memory.settle(await reserved(memory, 1, 1), 0.5, Usage(1, 1), {b"a": b"{}"})
        await memory.close()
    with pytest.raises(AnnotatorUnavailable, match="VIBESTREAM_LLM_REDIS"):
        connect(url)
    with redis_server(tmp_path) as url:
        again = RedisMemory(connect(url), merge)
        assert await again.charged() == (0.5, 1)
        assert await again.look_up([b"a"]) == {b"a": b"{}"}
        await again.close()


async def test_a_redis_that_goes_away_is_an_llm_that_cannot_be_asked(tmp_path: Path):
    with redis_server(tmp_path) as url:
        memory = RedisMemory(connect(url), merge)
    for call in (memory.look_up([b"a"]), memory.spending(), memory.keep({b"a": b"{}"})):
        with pytest.raises(AnnotatorUnavailable, match="Redis, which keeps the LLM's answers"):
            await call
    await memory.close()


def test_a_redis_that_refuses_us_or_may_forget_money_is_named(server: str, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="VIBESTREAM_LLM_REDIS: Redis refused"):
        connect(server.replace("r3dis", "wrong"))
    with pytest.raises(ConfigurationError, match="VIBESTREAM_LLM_REDIS: "):
        connect("http://elsewhere")
    with redis_server(tmp_path, "--maxmemory-policy", "allkeys-lru") as url:
        with pytest.raises(ConfigurationError, match="may forget money"):
            connect(url)


async def test_workers_whose_settings_name_a_redis_share_it_and_show_it_to_nobody(server: str, tmp_path: Path):
    async with gemini_server() as fake:
        prefix = f"{random.random()}."
        settings = Settings(
            gemini_api_key="key", gemini_base_url=fake.url, llm_redis=server, topic_prefix=prefix,
            llm_state=str(tmp_path / "unused"),
        )  # fmt: skip
        upload = VideoUpload(schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=0, title="funny")
        for _ in range(2):
            annotator = make_llm(settings, load_catalogue())
            await annotator.annotate([Question(upload, ("funny",))])
            await annotator.close()
        assert fake.ledger.requests == 1
    assert not (tmp_path / "unused").exists()
    assert PASSWORD not in repr(settings) + "".join(settings.lines())
    assert {server, PASSWORD} <= set(settings.secrets)
