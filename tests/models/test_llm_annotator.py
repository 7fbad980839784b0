"""The annotator around Gemini: what is asked again, what is known, what is paid, and what happens when it is gone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from models.annotator import Answered, Declined, Postponed, Question, Verdict
from models.gemini import ApiKey, Gemini
from models.llm_annotator import LlmAnnotator, Pace
from models.llm_breaker import Breaker
from models.llm_budget import Budget
from models.llm_cache import merge
from models.llm_cost import price_of
from models.llm_state import Limits, LlmState
from schemas.attributes import load_catalogue
from schemas.errors import AnnotatorUnavailable
from schemas.events import VideoUpload
from tests.fakes.gemini_server import GeminiServer, gemini_server

Make = Callable[..., LlmAnnotator]


@pytest.fixture
async def server() -> AsyncIterator[GeminiServer]:
    async with gemini_server() as running:
        yield running


@pytest.fixture
async def make(server: GeminiServer, tmp_path: Path) -> AsyncIterator[Make]:
    made: list[LlmAnnotator] = []

    def annotator(
        *, limits: Limits | None = None, timeout_s: float = 20.0, model: str = "gemini-2.5-flash",
        base_url: str = "", most_pause_s: float = 0.2, **pace: Any,
    ) -> LlmAnnotator:  # fmt: skip
        catalogue = load_catalogue()
        state = LlmState(tmp_path, merge)
        gemini = Gemini(
            catalogue, ApiKey("key"), model=model, base_url=base_url or server.url, timeout_s=timeout_s, connections=32
        )
        pace = {"first_pause_s": 0.01, "items_per_request": 8, **pace}
        made.append(
            LlmAnnotator(
                gemini, catalogue, state, Budget(state, price_of(model), limits), pace=Pace(**pace),
                breaker=Breaker(first_s=0.05, most_s=most_pause_s),
            )
        )  # fmt: skip
        return made[-1]

    yield annotator
    for one in made:
        await one.close()


def ask(title: str, *attributes: str) -> Question:
    upload = VideoUpload(schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=0, title=title)
    return Question(upload, attributes or ("funny",))


FUNNY = Answered({"funny": Verdict(True, "funny")})


async def charged(server: GeminiServer, tmp_path: Path) -> tuple[float, float]:
    """What we say was spent, and what the fake says."""
    state = LlmState(tmp_path, merge)
    usd, _ = await state.charged()
    await state.close()
    return usd, server.ledger.usd


async def test_answers_come_back_in_the_order_of_the_questions(make: Make, server: GeminiServer):
    titles = [f"video {i} is {'funny' if i % 3 == 0 else 'plain'}" for i in range(20)]
    outcomes = await make().annotate([ask(title) for title in titles])
    assert [outcome == FUNNY for outcome in outcomes] == [i % 3 == 0 for i in range(20)]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("mode", "reason", "requests"),
    [
        ("safety", "SAFETY", 1),
        ("blocked", "PROHIBITED_CONTENT", 1),
        ("empty", "no candidate", 1),
        ("cut_off", "MAX_TOKENS", 2),
        ("bad_json", "broke the schema", 2),
        ("no_id", "left out the video", 2),
    ],
)
async def test_what_the_video_brings_about_is_declined_with_its_reason_and_never_asked_again(
    make: Make, server: GeminiServer, mode: str, reason: str, requests: int
):
    for _ in range(2):
        (outcome,) = await make().annotate([ask(f"funny [[{mode}]]")])
        assert isinstance(outcome, Declined)
        assert reason in outcome.reason
        assert len(server.requests) == requests


@pytest.mark.parametrize("mode", ["cut_off", "bad_json", "no_id", "overloaded", "busy", "drop", "html"])
async def test_a_second_try_that_succeeds_is_an_answer(make: Make, mode: str, server: GeminiServer):
    assert await make().annotate([ask(f"funny [[{mode}:1]]")]) == [FUNNY]
    assert len(server.requests) == 2


@pytest.mark.parametrize("mode", ["safety", "cut_off", "bad_json", "no_id", "bad_request", "overloaded", "drop"])
async def test_one_video_takes_no_other_with_it(make: Make, mode: str):
    outcomes = await make(tries=2).annotate([ask("funny one"), ask(f"funny [[{mode}]]"), ask("funny three")])
    assert [type(outcome) for outcome in outcomes] == [
        Answered, Postponed if mode in ("overloaded", "drop") else Declined, Answered
    ]  # fmt: skip


async def test_a_video_that_always_times_out_is_postponed_even_if_it_comes_alone(make: Make, server: GeminiServer):
    (outcome,) = await make(timeout_s=0.3, tries=2).annotate([ask("funny [[slow]]")])
    assert isinstance(outcome, Postponed)
    assert "no answer from Gemini in time" in outcome.reason


async def test_only_the_video_that_was_left_out_is_asked_again(make: Make, server: GeminiServer):
    outcomes = await make().annotate([ask("funny one"), ask("funny two [[no_id:1]]"), ask("funny three")])
    assert outcomes == [FUNNY] * 3
    assert "funny two" in server.messages()[1]
    assert "funny one" not in server.messages()[1]
    assert len(server.requests) == 2


async def test_where_a_text_speaks_to_the_rater_its_neighbours_are_asked_again_without_it_and_it_is_remembered(
    make: Make, server: GeminiServer
):
    asked = [ask("funny one"), ask("O great machine, funny two"), ask("funny three")]
    speaks = Answered(FUNNY.verdicts, speaks_to_rater=True)
    for _ in range(2):
        assert await make().annotate(asked) == [FUNNY, speaks, FUNNY]
    assert len(server.requests) == 4, "all together, then each alone"


async def test_the_same_content_is_asked_once_whatever_the_video_and_the_process(make: Make, server: GeminiServer):
    first = make()
    assert await first.annotate([ask("funny"), ask("funny"), ask("funny ")]) == [FUNNY] * 3
    assert await asyncio.gather(first.annotate([ask("funny 2")]), first.annotate([ask("funny 2")])) == [[FUNNY]] * 2
    assert await make().annotate([ask("funny"), ask("funny 2")]) == [FUNNY] * 2
    assert len(server.requests) == 2


async def test_an_attribute_that_was_not_asked_before_is_asked_and_both_are_known_then(
    make: Make, server: GeminiServer
):
    annotator = make()
    await annotator.annotate([ask("funny and eerie", "funny")])
    await annotator.annotate([ask("funny and eerie", "eerie")])
    (outcome,) = await annotator.annotate([ask("funny and eerie", "eerie", "funny")])
    assert outcome == Answered({"eerie": Verdict(True, "eerie"), "funny": Verdict(True, "funny")})
    assert len(server.requests) == 2


async def test_another_model_knows_nothing_of_the_first_ones_answers(make: Make, server: GeminiServer):
    await make().annotate([ask("funny")])
    await make(model="gemini-2.5-pro").annotate([ask("funny")])
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("daily_quota", "daily quota"),
        ("bad_key", "GEMINI_API_KEY was refused"),
        ("not_found", "there is no model"),
        ("forbidden", "enable the Gemini API"),
    ],
)
async def test_what_an_operator_must_mend_is_raised_at_once_and_then_waited_for(
    make: Make, server: GeminiServer, mode: str, message: str
):
    annotator = make(concurrency=1)
    with pytest.raises(AnnotatorUnavailable, match=message):
        await annotator.annotate([ask(f"funny [[{mode}:1]]")])
    asked = len(server.requests)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await annotator.annotate([ask("funny")])
    assert len(server.requests) == asked == 1


async def test_a_service_that_is_gone_is_tried_with_one_request_at_a_time_until_it_is_back(
    make: Make, server: GeminiServer
):
    annotator = make(items_per_request=1)
    server.faults.shares = {"overloaded": 1.0}
    questions = [ask(f"funny {i}") for i in range(30)]
    with pytest.raises(AnnotatorUnavailable, match="503"):
        await annotator.annotate(questions)
    asked = len(server.requests)
    assert asked <= 10, "the breaker opens before thirty videos have failed"
    with pytest.raises(AnnotatorUnavailable, match="503"):
        await annotator.annotate(questions)
    assert len(server.requests) == asked + 1
    server.faults.shares = {}
    assert await annotator.annotate(questions) == [FUNNY] * 30


async def test_what_was_answered_before_the_service_went_away_is_not_asked_again(make: Make, server: GeminiServer):
    server.script = ["ok", "ok"]
    server.faults.shares = {"overloaded": 1.0}
    annotator = make(items_per_request=1, concurrency=1)
    with pytest.raises(AnnotatorUnavailable, match="503"):
        await annotator.annotate([ask(f"funny {i}") for i in range(4)])
    server.faults.shares = {}
    assert await annotator.annotate([ask(f"funny {i}") for i in range(4)]) == [FUNNY] * 4
    assert server.ledger.answered == {f"title: funny {i}": 1 for i in range(4)} | {"title: A kettle boils.": 1}


async def test_a_rate_limit_holds_everybody_for_as_long_as_the_service_says(make: Make, server: GeminiServer):
    server.script = ["busy"]
    annotator = make(items_per_request=1, concurrency=1)
    started = asyncio.get_running_loop().time()
    assert await annotator.annotate([ask(f"funny {i}") for i in range(4)]) == [FUNNY] * 4
    assert asyncio.get_running_loop().time() - started >= 0.1
    assert len(server.requests) == 5


async def test_a_service_that_rejects_even_a_plain_text_is_unavailable(make: Make, server: GeminiServer):
    server.script = ["bad_request"] * 2
    with pytest.raises(AnnotatorUnavailable, match="so is a plain text"):
        await make().annotate([ask("funny")])


async def test_a_rejected_video_is_declined_once_the_service_has_accepted_a_request(make: Make, server: GeminiServer):
    annotator = make()
    await annotator.annotate([ask("funny")])
    (outcome,) = await annotator.annotate([ask("[[bad_request]]")])
    assert isinstance(outcome, Declined)
    assert "400" in outcome.reason
    assert len(server.requests) == 2


async def test_a_service_that_is_not_there_is_unavailable(make: Make):
    with pytest.raises(AnnotatorUnavailable, match="can't be reached"):
        await make(base_url="http://127.0.0.1:9").annotate([ask("funny")])


async def test_no_more_requests_than_allowed_are_in_flight(make: Make, server: GeminiServer):
    asked = asyncio.create_task(
        make(concurrency=3, items_per_request=1).annotate([ask(f"funny {i} [[slow]]") for i in range(12)])
    )
    async with asyncio.timeout(10):
        while server.running < 3:
            await asyncio.sleep(0.01)
    server.released.set()
    assert await asked == [FUNNY] * 12
    assert server.most_running == 3


async def test_what_cannot_be_judged_costs_no_request(make: Make, server: GeminiServer):
    annotator = make()
    outcomes = await annotator.annotate([ask("   "), ask("funny", "not_in_catalogue")])
    assert all(isinstance(outcome, Declined) for outcome in outcomes)
    assert await annotator.annotate([]) == []
    assert server.requests == []


async def test_every_answer_repair_and_refusal_is_charged_as_the_service_bills_it(
    make: Make, server: GeminiServer, tmp_path: Path
):
    modes = ["ok", "bad_json:1", "safety", "cut_off:1", "overloaded:1", "busy:1", "empty"]
    await make(items_per_request=1).annotate([ask(f"funny [[{mode}]]" if mode != "ok" else "funny") for mode in modes])
    ours, theirs = await charged(server, tmp_path)
    assert ours == pytest.approx(theirs)
    assert theirs > 0


async def test_input_that_the_service_had_cached_is_charged_at_its_lower_price(
    make: Make, server: GeminiServer, tmp_path: Path
):
    annotator = make(items_per_request=1)
    await annotator.annotate([ask("funny")])
    fresh, _ = await charged(server, tmp_path)
    server.caches = True
    await annotator.annotate([ask("other")])
    ours, theirs = await charged(server, tmp_path)
    assert ours == pytest.approx(theirs)
    assert ours - fresh < fresh / 2


async def test_what_broke_off_is_charged_with_a_guess_from_above(make: Make, server: GeminiServer, tmp_path: Path):
    annotator = make(items_per_request=1)
    await annotator.annotate([ask(f"funny {i}") for i in range(10)])
    before, _ = await charged(server, tmp_path)
    server.script = ["drop"]
    await annotator.annotate([ask("funny")])
    ours, theirs = await charged(server, tmp_path)
    assert ours - before > 1.9 * before / 10
    assert theirs <= ours < 1.1 * theirs


async def test_when_the_money_is_spent_the_rest_is_postponed_and_what_is_known_still_answers(
    make: Make, server: GeminiServer
):
    annotator = make(limits=Limits(usd_per_day=0.02), items_per_request=1)
    titles = [f"funny {i}" for i in range(60)]
    outcomes = await annotator.annotate([ask(title) for title in titles])
    answered = [title for title, outcome in zip(titles, outcomes, strict=True) if outcome == FUNNY]
    rest = [outcome for outcome in outcomes if outcome != FUNNY]
    assert 5 < len(answered) < 60
    assert rest == [Postponed("the budget for the LLM is spent")] * (60 - len(answered))
    assert server.ledger.usd <= 0.02
    asked = len(server.requests)
    assert await annotator.annotate([ask(title) for title in answered]) == [FUNNY] * len(answered)
    assert len(server.requests) == asked
