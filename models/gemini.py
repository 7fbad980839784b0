"""The annotator for production: Gemini, through google-genai."""

import asyncio
import secrets
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import ClientSession, TCPConnector
from google import genai
from google.genai import types

from models.annotator import Answered, Declined, Outcome, Question
from models.answer import read_answers, unanswerable
from models.gemini_failure import REQUEST_ERRORS, Unanswered, of_error, of_response
from models.prompt import Rubric, RubricFile, compile_rubric, fence, load_prompt
from monitoring import metrics
from schemas.annotation import AnnotatorVersion
from schemas.attributes import Catalogue
from schemas.errors import AnnotatorUnavailable, ConfigurationError
from schemas.events import VideoUpload

# Given outright: the SDK would take both from the environment. v1beta knows every field that is sent.
_BASE_URL = "https://generativelanguage.googleapis.com/"
_API_VERSION = "v1beta"

# Evidence of 20 words and the JSON around it; the rest is for thoughts, which count as output.
_TOKENS_PER_VERDICT = 80
_TOKENS_PER_REQUEST = 1_024

_REPAIR = "\nYour last answer did not fit the schema. Answer again, with valid JSON and nothing else."

# If even this is called invalid, the fault is in our request and not in somebody's video.
_PLAIN = VideoUpload(schema_version=1, video_id="plain", creator_id="plain", uploaded_at_ms=0, title="A kettle boils.")

T = TypeVar("T")
_Reply = Mapping[int, Answered] | Unanswered


class GeminiAnnotator:
    """Asks about several videos in one request and holds every answer against its question.

    A request that fails as a whole is asked again video by video, so that no video can take others with it; by itself
    a video is asked at most twice. All or nothing: if Gemini goes away in the middle, `annotate` raises.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        api_key: str,
        model: str,
        base_url: str | None = None,
        timeout_s: float = 60.0,
        concurrency: int = 16,
        items_per_request: int = 8,
    ) -> None:
        """`timeout_s` bounds one request; `concurrency` is requests in flight and connections.

        Raises:
            ConfigurationError: the key is empty.

        """
        if not api_key:  # the SDK would look for another one in the environment
            raise ConfigurationError("GEMINI_API_KEY is empty; set it, or VIBESTREAM_LLM=local")
        self._catalogue = catalogue
        self._rubric: Rubric = compile_rubric(catalogue, load_prompt("vibe", RubricFile), model)
        self._model = model
        self._api_key = api_key
        self._base_url = base_url or _BASE_URL
        self._timeout_ms = round(timeout_s * 1_000)
        self._concurrency = concurrency
        self._items = items_per_request
        # Waiting for a pooled connection counts against the client's time-out; waiting here does not.
        self._slots = asyncio.Semaphore(concurrency)
        self._opening = asyncio.Lock()
        self._session: ClientSession | None = None
        self._client: genai.Client | None = None
        self._accepted = False

    @property
    def version(self) -> AnnotatorVersion:
        """Model, prompt, and the hash of rubric and schema."""
        return self._rubric.version

    async def annotate(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Return one outcome per question, in order.

        Raises:
            AnnotatorUnavailable: Gemini can't be asked now, or not with this key, quota or model.

        """
        outcomes: dict[int, Outcome] = {}
        for i, question in enumerate(questions):
            if declined := unanswerable(question, self._catalogue):
                outcomes[i] = declined
        left = [i for i in range(len(questions)) if i not in outcomes]
        chunks = [left[at : at + self._items] for at in range(0, len(left), self._items)]
        answers = await _all(self._ask([questions[i] for i in chunk]) for chunk in chunks)
        for chunk, answered in zip(chunks, answers, strict=True):
            outcomes.update(zip(chunk, answered, strict=True))
        return [outcomes[i] for i in range(len(questions))]

    async def close(self) -> None:
        """Close the connections; the annotator can't be used afterwards."""
        if self._client is not None:
            await self._client.aio.aclose()
            self._client.close()
        if self._session is not None:
            await self._session.close()

    async def _ask(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        if len(questions) == 1:
            return [await self._ask_alone(questions[0])]
        reply = await self._request(questions)
        answers: Mapping[int, Outcome] = {} if isinstance(reply, Unanswered) else reply
        left = [i for i in range(len(questions)) if i not in answers]
        alone = await _all(self._ask_alone(questions[i]) for i in left)
        return [{**answers, **dict(zip(left, alone, strict=True))}[i] for i in range(len(questions))]

    async def _ask_alone(self, question: Question) -> Outcome:
        reply = await self._request([question])
        if isinstance(reply, Unanswered):
            match reply.kind:
                case "refused":
                    return Declined(reply.reason)
                case "rejected":
                    await self._require_plain(question.attributes, reply.reason)
                    return Declined(reply.reason)
                case "cut_off":
                    reply = await self._request([question], room=2)
                case "malformed" | "missing":
                    reply = await self._request([question], note=_REPAIR)
        return Declined(reply.reason) if isinstance(reply, Unanswered) else reply[0]

    async def _require_plain(self, attributes: Sequence[str], reason: str) -> None:
        """Raise AnnotatorUnavailable if no request was ever accepted and a plain video is rejected as well."""
        if self._accepted:
            return
        reply = await self._request([Question(_PLAIN, tuple(attributes))])
        if isinstance(reply, Unanswered) and reply.kind == "rejected":
            raise AnnotatorUnavailable(f"{reason}; so is one for a plain text: check VIBESTREAM_GEMINI_MODEL")

    async def _request(self, questions: Sequence[Question], room: int = 1, note: str = "") -> _Reply:
        """Send one request; return the answers by position (of a single question: that one) or why there are none."""
        nonce = secrets.token_hex(8)
        asked = {f"{nonce}-{i}": question for i, question in enumerate(questions)}
        contents = fence(asked, nonce) + note
        config = self._config(room * _room(questions))
        client = await self._open()
        async with self._slots:
            started = time.perf_counter()
            try:
                response = await client.aio.models.generate_content(model=self._model, contents=contents, config=config)
            except REQUEST_ERRORS as error:
                failure = of_error(error, self._model)
                _count(failure)
                if isinstance(failure, AnnotatorUnavailable):
                    raise failure from error
                return failure
            finally:
                metrics.LLM_SECONDS.labels("gemini").observe(time.perf_counter() - started)
        _count_tokens(response.usage_metadata)
        reply = _read(response, asked)
        _count(reply)
        if isinstance(reply, AnnotatorUnavailable):
            raise reply
        self._accepted = True
        return reply

    def _config(self, max_tokens: int) -> types.GenerateContentConfig:
        return types.GenerateContentConfig(
            system_instruction=self._rubric.instruction,
            response_mime_type="application/json",
            response_json_schema=self._rubric.schema,
            temperature=0.0,
            max_output_tokens=max_tokens,
            thinking_config=_thinking(self._model),
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            automatic_continuation=False,
        )

    async def _open(self) -> genai.Client:
        async with self._opening:
            if self._client is None:
                self._session = ClientSession(connector=TCPConnector(limit=self._concurrency))
                options = types.HttpOptions(
                    base_url=self._base_url,
                    api_version=_API_VERSION,
                    timeout=self._timeout_ms,
                    aiohttp_client=self._session,
                    retry_options=types.HttpRetryOptions(attempts=1),
                )
                # It loads certificates for a quarter of a second.
                self._client = await asyncio.to_thread(
                    genai.Client, enterprise=False, api_key=self._api_key, http_options=options
                )
            return self._client


def _room(questions: Iterable[Question]) -> int:
    """Tokens that the answer may have."""
    return _TOKENS_PER_REQUEST + _TOKENS_PER_VERDICT * sum(len(question.attributes) for question in questions)


def _thinking(model: str) -> types.ThinkingConfig | None:
    """Return as little thinking as the model allows: Gemini 3 has levels, 2.5 a budget, older ones don't think."""
    name = model.rpartition("/")[2]
    if name.startswith("gemini-3"):
        return types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW)
    if name.startswith("gemini-2.5"):
        return types.ThinkingConfig(thinking_budget=128 if "pro" in name else 0)
    return None


def _read(response: types.GenerateContentResponse, asked: Mapping[str, Question]) -> _Reply | AnnotatorUnavailable:
    if fault := of_response(response):
        return fault
    try:
        answers = read_answers(response.text or "", asked)
    except (msgspec.DecodeError, RecursionError) as error:
        return Unanswered("malformed", f"the answer broke the schema twice: {error}"[:300])
    if len(asked) == 1 and not answers:
        return Unanswered("missing", "the answer left out the video or one of its attributes")
    return {i: answers[key] for i, key in enumerate(asked) if key in answers}


def _count(reply: _Reply | AnnotatorUnavailable) -> None:
    match reply:
        case AnnotatorUnavailable():
            outcome = "unavailable"
        case Unanswered(kind=kind):
            outcome = kind
        case _:
            outcome = "answered"
    metrics.LLM_CALLS.labels("gemini", outcome).inc()


def _count_tokens(usage: types.GenerateContentResponseUsageMetadata | None) -> None:
    if usage is not None:
        thoughts = usage.thoughts_token_count or 0
        metrics.LLM_TOKENS.labels("gemini", "input").inc(usage.prompt_token_count or 0)
        metrics.LLM_TOKENS.labels("gemini", "output").inc((usage.candidates_token_count or 0) + thoughts)


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> Sequence[T]:
    """Run all at once; the first failure cancels the rest and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]
