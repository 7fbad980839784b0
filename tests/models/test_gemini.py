import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import REGISTRY

from models.annotator import Answered, Declined, Question, Verdict
from models.gemini import GeminiAnnotator
from schemas.attributes import load_catalogue
from schemas.errors import AnnotatorUnavailable, ConfigurationError
from schemas.events import VideoUpload
from tests.fakes.gemini_server import GeminiServer, gemini_server

Make = Callable[..., GeminiAnnotator]


@pytest.fixture
async def server() -> AsyncIterator[GeminiServer]:
    async with gemini_server() as running:
        yield running


@pytest.fixture
async def make(server: GeminiServer) -> AsyncIterator[Make]:
    made: list[GeminiAnnotator] = []

    def annotator(**options: object) -> GeminiAnnotator:
        settings = {"api_key": "key", "model": "gemini-2.5-flash", "base_url": server.url, **options}
        made.append(GeminiAnnotator(load_catalogue(), **settings))
        return made[-1]

    yield annotator
    for one in made:
        await one.close()


def ask(title: str, *attributes: str) -> Question:
    upload = VideoUpload(schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=0, title=title)
    return Question(upload, attributes or ("funny",))


FUNNY = Answered({"funny": Verdict(True, "funny")})


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"kind": "gemini", **labels}) or 0.0


async def test_answers_come_back_in_the_order_of_the_questions(make: Make, server: GeminiServer):
    titles = [f"video {i} is {'funny' if i % 3 == 0 else 'plain'}" for i in range(20)]
    outcomes = await make().annotate([ask(title) for title in titles])
    assert [outcome == FUNNY for outcome in outcomes] == [i % 3 == 0 for i in range(20)]
    assert len(server.requests) == 3


async def test_each_video_is_asked_its_own_attributes(make: Make):
    outcomes = await make().annotate([ask("funny eerie?", "eerie", "funny"), ask("hyped", "hyped", "funny")])
    assert outcomes == [
        Answered({"eerie": Verdict(None, "eerie"), "funny": Verdict(True, "funny")}),
        Answered({"hyped": Verdict(True, "hyped"), "funny": Verdict(False)}),
    ]


async def test_the_rubric_is_the_whole_system_instruction_and_never_changes(make: Make, server: GeminiServer):
    annotator = make(items_per_request=1)
    await annotator.annotate([ask("first zebra"), ask("other zebra")])
    first, second = (json.dumps(request["systemInstruction"]) for request in server.requests)
    assert first == second
    assert "zebra" not in first


async def test_every_request_is_fenced_with_another_code(make: Make, server: GeminiServer):
    await make(items_per_request=1).annotate([ask("a"), ask("a")])
    codes = {message.split("\n")[0] for message in server.messages()}
    assert len(codes) == 2


async def test_requests_are_cold_closed_and_without_tools(make: Make, server: GeminiServer):
    await make().annotate([ask("funny")])
    request = server.requests[0]
    config = request["generationConfig"]
    assert config["temperature"] == 0.0
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"]["required"] == ["answers"]
    assert "tools" not in request


@pytest.mark.parametrize(
    ("model", "thinking"),
    [
        ("gemini-2.5-flash", {"budget": 0}),
        ("gemini-2.5-pro", {"budget": 128}),
        ("gemini-3-flash-preview", {"level": "LOW"}),
        ("gemini-2.0-flash", None),
    ],
)
async def test_as_little_thinking_as_the_model_allows(
    make: Make, server: GeminiServer, model: str, thinking: dict[str, object] | None
):
    await make(model=model).annotate([ask("funny")])
    sent = server.requests[0]["generationConfig"].get("thinkingConfig")
    spelled = {name.lower().removeprefix("thinking").strip("_"): value for name, value in (sent or {}).items()}
    assert (spelled or None) == thinking


UNAVAILABLE = [
    ("rate_limit", "429: .*rate limit.*retry after 2.5 s"),
    ("daily_quota", "429: .*daily quota.*retry after 35640 s"),
    ("bad_key", "400: GEMINI_API_KEY was refused"),
    ("no_billing", "400: .*billing or region"),
    ("unauthenticated", "401: GEMINI_API_KEY was refused"),
    ("forbidden", "403: .*enable the Gemini API"),
    ("not_found", "404: there is no model 'gemini-2.5-flash'.*VIBESTREAM_GEMINI_MODEL"),
    ("overloaded", "503: Gemini failed: The model is overloaded"),
    ("gateway", "502: Gemini failed"),
    ("drop", "can't be reached"),
    ("html", "200, but no answer of Gemini's shape"),
    ("broken_body", "200, but no answer of Gemini's shape"),
    ("list_body", "200, but neither candidates nor usage"),
    ("number_body", "200, but no answer of Gemini's shape"),
    ("wrong_types", "200, but no answer of Gemini's shape"),
    ("other_json", "200, but neither candidates nor usage"),
]


@pytest.mark.parametrize(("mode", "message"), UNAVAILABLE)
async def test_what_is_no_fault_of_the_video_makes_the_annotator_unavailable_at_once(
    make: Make, server: GeminiServer, mode: str, message: str
):
    with pytest.raises(AnnotatorUnavailable, match=message):
        await make().annotate([ask(f"funny [[{mode}]]")])
    assert len(server.requests) == 1


DECLINED = [
    ("safety", "SAFETY", 1),
    ("recitation", "RECITATION", 1),
    ("blocked", "PROHIBITED_CONTENT", 1),
    ("empty", "no candidate", 1),
    ("cut_off", "MAX_TOKENS", 2),
    ("bad_json", "broke the schema", 2),
    ("off_enum", "broke the schema", 2),
    ("other", "OTHER", 2),
    ("no_id", "left out the video", 2),
    ("wrong_id", "left out the video", 2),
    ("twice", "left out the video", 2),
    ("no_attribute", "left out the video", 2),
]


@pytest.mark.parametrize(("mode", "reason", "requests"), DECLINED)
async def test_what_the_video_brings_about_is_declined_with_its_reason(
    make: Make, server: GeminiServer, mode: str, reason: str, requests: int
):
    (outcome,) = await make().annotate([ask(f"funny [[{mode}]]")])
    assert isinstance(outcome, Declined)
    assert reason in outcome.reason
    assert len(server.requests) == requests


@pytest.mark.parametrize("mode", ["cut_off", "bad_json", "off_enum", "other", "no_id", "no_attribute"])
async def test_a_second_try_that_succeeds_is_an_answer(make: Make, mode: str):
    assert await make().annotate([ask(f"funny [[{mode}:1]]")]) == [FUNNY]


async def test_an_answer_that_was_cut_off_gets_twice_the_room(make: Make, server: GeminiServer):
    await make().annotate([ask("funny [[cut_off:1]]")])
    first, second = (request["generationConfig"]["maxOutputTokens"] for request in server.requests)
    assert second == 2 * first


@pytest.mark.parametrize("mode", [mode for mode, _, _ in DECLINED] + ["bad_request"])
async def test_one_video_takes_no_other_with_it(make: Make, mode: str):
    outcomes = await make().annotate([ask("funny one"), ask(f"funny [[{mode}]]"), ask("funny three")])
    assert [type(outcome) for outcome in outcomes] == [Answered, Declined, Answered]


async def test_only_the_video_that_was_left_out_is_asked_again(make: Make, server: GeminiServer):
    outcomes = await make().annotate([ask("funny one"), ask("funny two [[no_id:1]]"), ask("funny three")])
    assert outcomes == [FUNNY] * 3
    assert "funny two" in server.messages()[1]
    assert "funny one" not in server.messages()[1]
    assert len(server.requests) == 2


async def test_a_service_that_goes_away_in_the_middle_of_the_single_questions_is_unavailable(
    make: Make, server: GeminiServer
):
    server.script = ["bad_json", "ok", "overloaded"]
    with pytest.raises(AnnotatorUnavailable, match="503"):
        await make(concurrency=1).annotate([ask("a"), ask("b"), ask("c")])


async def test_a_service_that_rejects_even_a_plain_text_is_unavailable(make: Make, server: GeminiServer):
    server.script = ["bad_request"] * 2
    with pytest.raises(AnnotatorUnavailable, match="so is one for a plain text"):
        await make().annotate([ask("funny")])


async def test_a_rejected_video_is_declined_once_the_service_has_accepted_a_request(make: Make, server: GeminiServer):
    annotator = make()
    await annotator.annotate([ask("funny")])
    (outcome,) = await annotator.annotate([ask("[[bad_request]]")])
    assert isinstance(outcome, Declined)
    assert "400" in outcome.reason
    assert len(server.requests) == 2


async def test_a_slow_service_is_unavailable_after_the_time_out(make: Make):
    with pytest.raises(AnnotatorUnavailable, match="in time"):
        await make(timeout_s=0.2).annotate([ask("[[slow]]")])


async def test_a_service_that_is_not_there_is_unavailable(make: Make):
    with pytest.raises(AnnotatorUnavailable, match="can't be reached"):
        await make(base_url="http://127.0.0.1:9").annotate([ask("funny")])


async def test_no_more_requests_than_allowed_are_in_flight(make: Make, server: GeminiServer):
    asked = asyncio.create_task(
        make(concurrency=3, items_per_request=1).annotate([ask("funny [[slow]]") for _ in range(12)])
    )
    async with asyncio.timeout(10):
        while server.running < 3:
            await asyncio.sleep(0.01)
    server.released.set()
    assert await asked == [FUNNY] * 12
    assert server.most_running == 3


async def test_invented_evidence_is_dropped_and_the_verdict_stays(make: Make):
    assert await make().annotate([ask("funny [[invented_evidence]]")]) == [Answered({"funny": Verdict(True)})]


async def test_answers_that_nobody_asked_for_change_nothing(make: Make):
    assert await make().annotate([ask("funny [[extra]]")]) == [FUNNY]


async def test_what_cannot_be_judged_costs_no_request(make: Make, server: GeminiServer):
    outcomes = await make().annotate([ask("   "), ask("funny", "not_in_catalogue")])
    assert all(isinstance(outcome, Declined) for outcome in outcomes)
    assert await make().annotate([]) == []
    assert server.requests == []


async def test_calls_and_tokens_are_counted_and_thoughts_are_output(make: Make):
    before = counted("vibestream_llm_calls_total", outcome="answered")
    thoughts = counted("vibestream_llm_tokens_total", direction="output")
    refused = counted("vibestream_llm_calls_total", outcome="refused")
    timed = counted("vibestream_llm_seconds_count")
    await make().annotate([ask("funny")])
    await make().annotate([ask("[[safety]]")])
    assert counted("vibestream_llm_calls_total", outcome="answered") == before + 1
    assert counted("vibestream_llm_calls_total", outcome="refused") == refused + 1
    assert counted("vibestream_llm_tokens_total", direction="output") >= thoughts + 6
    assert counted("vibestream_llm_seconds_count") == timed + 2


async def test_the_version_names_model_and_prompt(make: Make):
    version = make(model="gemini-2.5-pro").version
    assert (version.kind, version.model, version.prompt) == ("gemini", "gemini-2.5-pro", "vibe")


async def test_an_empty_key_is_a_configuration_error(make: Make):
    with pytest.raises(ConfigurationError, match="GEMINI_API_KEY is empty"):
        make(api_key="")


async def test_only_the_key_that_was_given_is_sent(make: Make, server: GeminiServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_API_KEY", "another")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    await make(api_key="given").annotate([ask("funny")])
    assert {name.lower(): value for name, value in server.headers[0].items()}["x-goog-api-key"] == "given"
