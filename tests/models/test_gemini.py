"""One request to Gemini: what is sent, and how each way of failing ends."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import RefreshError
from prometheus_client import REGISTRY

from models.annotator import Answered, Question, Verdict
from models.gemini import ApiKey, Gemini, VertexAi
from models.gemini_failure import of_error, seconds_to_reset
from models.llm_outcome import Call, Park, Permanent, Replied, Retry, Usage
from schemas.attributes import load_catalogue
from schemas.errors import ConfigurationError
from schemas.events import VideoUpload
from tests.fakes.gemini_server import GeminiServer, gemini_server

Make = Callable[..., Gemini]


@pytest.fixture
async def server() -> AsyncIterator[GeminiServer]:
    async with gemini_server() as running:
        yield running


@pytest.fixture
async def make(server: GeminiServer) -> AsyncIterator[Make]:
    made: list[Gemini] = []

    def gemini(access: ApiKey | VertexAi | None = None, **options: object) -> Gemini:
        settings = {"model": "gemini-2.5-flash", "base_url": server.url, **options}
        made.append(Gemini(load_catalogue(), access or ApiKey("key"), **settings))
        return made[-1]

    yield gemini
    for one in made:
        await one.close()


def question(title: str, *attributes: str) -> Question:
    upload = VideoUpload(schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=0, title=title)
    return Question(upload, attributes or ("funny",))


async def ask(gemini: Gemini, *questions: Question) -> Call:
    return await gemini.ask(questions)


FUNNY = Answered({"funny": Verdict(True, "funny")})


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"kind": "gemini", **labels}) or 0.0


async def test_each_video_is_asked_its_own_attributes(make: Make):
    call = await ask(make(), question("funny eerie?", "eerie", "funny"), question("hyped", "hyped", "funny"))
    assert call.outcome == Replied(
        {
            0: Answered({"eerie": Verdict(None, "eerie"), "funny": Verdict(True, "funny")}),
            1: Answered({"hyped": Verdict(True, "hyped"), "funny": Verdict(False)}),
        }
    )


async def test_the_rubric_is_the_whole_system_instruction_and_never_changes(make: Make, server: GeminiServer):
    gemini = make()
    await ask(gemini, question("first zebra"))
    await ask(gemini, question("other zebra"))
    first, second = (json.dumps(request["systemInstruction"]) for request in server.requests)
    assert first == second
    assert "zebra" not in first


async def test_every_request_is_fenced_with_another_code(make: Make, server: GeminiServer):
    gemini = make()
    await ask(gemini, question("a"))
    await ask(gemini, question("a"))
    assert len({message.split("\n")[0] for message in server.messages()}) == 2


async def test_requests_are_cold_closed_and_without_tools(make: Make, server: GeminiServer):
    await ask(make(), question("funny"))
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
    await ask(make(model=model), question("funny"))
    sent = server.requests[0]["generationConfig"].get("thinkingConfig")
    spelled = {name.lower().removeprefix("thinking").strip("_"): value for name, value in (sent or {}).items()}
    assert (spelled or None) == thinking


FAILURES: list[tuple[str, type, str, str, bool]] = [
    # mode of the fake, outcome, cause, what the reason says, whether it was billed (as far as we know)
    ("busy", Retry, "rate_limit", "rate limit.*retry after 0.1 s", False),
    ("rate_limit", Retry, "rate_limit", "rate limit.*retry after 2.5 s", False),
    ("daily_quota", Park, "quota", "daily quota.*resets in 35640 s", False),
    ("bad_key", Park, "credentials", "400: GEMINI_API_KEY was refused", False),
    ("no_billing", Park, "credentials", "400: .*billing or region", False),
    ("unauthenticated", Park, "credentials", "401: GEMINI_API_KEY was refused", False),
    ("forbidden", Park, "credentials", "403: .*enable the Gemini API", False),
    ("not_found", Park, "model", "404: there is no model 'gemini-2.5-flash'.*VIBESTREAM_GEMINI_MODEL", False),
    ("bad_request", Permanent, "rejected", "400: Gemini called the request invalid", False),
    ("overloaded", Retry, "overloaded", "503: Gemini failed: The model is overloaded", False),
    ("gateway", Retry, "overloaded", "502: Gemini failed", False),
    ("drop", Retry, "network", "can't be reached", True),
    ("html", Retry, "unreadable", "200, but no answer of Gemini's shape", True),
    ("broken_body", Retry, "unreadable", "200, but no answer of Gemini's shape", True),
    ("number_body", Retry, "unreadable", "200, but no answer of Gemini's shape", True),
    ("wrong_types", Retry, "unreadable", "200, but no answer of Gemini's shape", True),
    ("list_body", Retry, "unreadable", "200, but neither candidates nor usage", True),
    ("other_json", Retry, "unreadable", "200, but neither candidates nor usage", True),
    ("safety", Permanent, "refused", "SAFETY", True),
    ("recitation", Permanent, "refused", "RECITATION", True),
    ("blocked", Permanent, "refused", "PROHIBITED_CONTENT", True),
    ("empty", Permanent, "refused", "no candidate", True),
    ("cut_off", Retry, "cut_off", "MAX_TOKENS", True),
    ("bad_json", Retry, "malformed", "broke the schema", True),
    ("off_enum", Retry, "malformed", "broke the schema", True),
    ("other", Retry, "malformed", "OTHER", True),
    ("no_id", Retry, "missing", "left out the video", True),
    ("wrong_id", Retry, "missing", "left out the video", True),
    ("twice", Retry, "missing", "left out the video", True),
    ("no_attribute", Retry, "missing", "left out the video", True),
]


@pytest.mark.parametrize(("mode", "kind", "cause", "reason", "billed"), FAILURES)
async def test_every_way_of_failing_ends_in_one_of_three_outcomes(
    make: Make, server: GeminiServer, mode: str, kind: type, cause: str, reason: str, billed: bool
):
    call = await ask(make(), question(f"funny [[{mode}]]"))
    assert type(call.outcome) is kind
    assert isinstance(call.outcome, (Retry, Permanent, Park))
    assert call.outcome.cause == cause
    assert re.search(reason, call.outcome.reason)
    assert (call.usage != Usage(0, 0)) == billed
    assert len(server.requests) == 1, "no hidden retry"


async def test_a_delay_that_the_service_names_is_kept(make: Make):
    limited = (await ask(make(), question("[[rate_limit]]"))).outcome
    daily = (await ask(make(), question("[[daily_quota]]"))).outcome
    assert isinstance(limited, Retry)
    assert isinstance(daily, Park)
    assert (limited.after_s, daily.for_s) == (2.5, 35_640)


async def test_a_slow_service_is_a_retry_after_the_time_out(make: Make):
    call = await ask(make(timeout_s=0.2), question("[[slow]]"))
    assert isinstance(call.outcome, Retry)
    assert (call.outcome.cause, call.usage) == ("timeout", None)


async def test_a_service_that_is_not_there_is_a_retry(make: Make):
    call = await ask(make(base_url="http://127.0.0.1:9"), question("funny"))
    assert isinstance(call.outcome, Retry)
    assert call.outcome.cause == "network"


def test_credentials_that_google_cannot_use_park():
    assert isinstance(of_error(RefreshError("expired"), "m"), Park)


def test_daily_quotas_begin_again_at_midnight_in_california():
    assert seconds_to_reset(datetime(2026, 1, 15, 7, 0, tzinfo=UTC)) == 3_600
    assert seconds_to_reset(datetime(2026, 7, 15, 8, 0, tzinfo=UTC)) == 23 * 3_600


async def test_no_request_is_billed_more_than_its_bound(make: Make, server: GeminiServer):
    gemini = make()
    for asked in ([question("funny")], [question("ü" * 300, "funny", "eerie"), question("<<<>>>" * 40)]):
        used = (await gemini.ask(asked)).usage
        bound = gemini.most(asked)
        assert used is not None
        assert used.input_tokens < bound.input_tokens
        assert used.output_tokens < bound.output_tokens
        sent = server.requests[-1]
        told = json.dumps(sent["systemInstruction"], ensure_ascii=False) + sent["contents"][0]["parts"][0]["text"]
        assert bound.input_tokens > len(told.encode()) * 0.98
        assert sent["generationConfig"]["maxOutputTokens"] == bound.output_tokens


async def test_a_cut_off_answer_can_be_given_more_room_and_a_broken_one_be_complained_of(
    make: Make, server: GeminiServer
):
    gemini = make()
    await gemini.ask([question("funny")])
    await gemini.ask([question("funny")], room=2, repair=True)
    first, second = (request["generationConfig"]["maxOutputTokens"] for request in server.requests)
    assert second == 2 * first
    assert "did not fit the schema" in server.messages()[1]


async def test_a_verdict_with_invented_evidence_counts_as_unclear(make: Make):
    call = await ask(make(), question("funny [[invented_evidence]]"))
    reason = "the LLM's evidence is not in the video's text"
    assert call.outcome == Replied({0: Answered({"funny": Verdict(None, None, reason)})})


async def test_answers_that_nobody_asked_for_change_nothing(make: Make):
    assert (await ask(make(), question("funny [[extra]]"))).outcome == Replied({0: FUNNY})


async def test_calls_and_tokens_are_counted_and_thoughts_are_output(make: Make):
    before = counted("vibestream_llm_calls_total", outcome="answered")
    thoughts = counted("vibestream_llm_tokens_total", direction="output")
    refused = counted("vibestream_llm_calls_total", outcome="refused")
    timed = counted("vibestream_llm_seconds_count")
    await ask(make(), question("funny"))
    await ask(make(), question("[[safety]]"))
    assert counted("vibestream_llm_calls_total", outcome="answered") == before + 1
    assert counted("vibestream_llm_calls_total", outcome="refused") == refused + 1
    assert counted("vibestream_llm_tokens_total", direction="output") >= thoughts + 6
    assert counted("vibestream_llm_seconds_count") == timed + 2


async def test_the_version_names_model_and_prompt(make: Make):
    version = make(model="gemini-2.5-pro").version
    assert (version.kind, version.model, version.prompt) == ("gemini", "gemini-2.5-pro", "vibe")


async def test_an_empty_key_is_a_configuration_error(make: Make):
    with pytest.raises(ConfigurationError, match="GEMINI_API_KEY is empty"):
        make(ApiKey(""))


async def test_only_the_key_that_was_given_is_sent(make: Make, server: GeminiServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_API_KEY", "another")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    await ask(make(ApiKey("given")), question("funny"))
    assert {name.lower(): value for name, value in server.headers[0].items()}["x-goog-api-key"] == "given"


async def test_vertex_ai_is_asked_as_the_project_with_its_own_credentials(make: Make, server: GeminiServer):
    credentials = AnonymousCredentials()
    credentials.token = "vertex-token"
    call = await ask(make(VertexAi("our-project", "europe-west4", credentials)), question("funny"))
    assert call.outcome == Replied({0: FUNNY})
    headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert headers["authorization"] == "Bearer vertex-token"
    assert "x-goog-api-key" not in headers


async def test_many_requests_share_a_bounded_pool_of_connections_that_is_closed(make: Make, server: GeminiServer):
    gemini = make(connections=3)
    calls = await asyncio.gather(*(ask(gemini, question(f"funny {i}")) for i in range(20)))
    assert {type(call.outcome) for call in calls} == {Replied}
    assert len(server.peers) <= 3
    session = gemini._session
    await gemini.close()
    assert session is not None
    assert session.closed


async def test_a_proxy_carries_the_requests(make: Make, server: GeminiServer):
    # A plain HTTP proxy is asked for the whole address; the fake takes the path of it.
    gemini = make(base_url="http://gemini.invalid", proxy=server.url)
    assert (await ask(gemini, question("funny"))).outcome == Replied({0: FUNNY})
    assert server.headers[0]["Host"] == "gemini.invalid"
