"""Gemini through google-genai: one request, made and read. What is around it stands in models/llm_annotator."""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from aiohttp import ClientSession, TCPConnector
from google import genai
from google.auth.credentials import Credentials
from google.genai import types

from models.annotator import Question
from models.answer import read_outcome
from models.clip import Clip, VideoTerms
from models.gemini_failure import REQUEST_ERRORS, of_error, of_response
from models.gemini_video import ATTACHED, VideoRefused, attached, media_resolution
from models.llm_outcome import NOTHING, Call, Permanent, Replied, Retry, Usage
from models.prompt import Rubric, RubricFile, compile_rubric, fence, load_prompt
from monitoring.gen_ai import count_request, count_tokens
from schemas.annotation import AnnotatorVersion
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError

# Given outright: the SDK would take them from the environment. v1beta and v1beta1 know every field that is sent.
_BASE_URL = "https://generativelanguage.googleapis.com/"

# Evidence of 20 words and the JSON around it; the rest is for thoughts, which count as output.
_TOKENS_PER_VERDICT = 80
_TOKENS_PER_REQUEST = 1_024
# Roles and separators that the service adds; everything else of the input is counted by its bytes.
_TOKENS_AROUND = 64

_REPAIR = "\nYour last answer did not fit the schema. Answer again, with valid JSON and nothing else."

# Billed for nothing: the service answered with an error status.
_UNBILLED = ("rate_limit", "overloaded")


@dataclass(frozen=True)
class ApiKey:
    """The Gemini API, with a key."""

    key: str


@dataclass(frozen=True)
class VertexAi:
    """Vertex AI; without credentials, those that Google's libraries find (`gcloud auth application-default login`)."""

    project: str
    location: str
    credentials: Credentials | None = None


class Gemini:
    """Makes one request at a time per call and holds every answer against its question; see `Llm`."""

    def __init__(
        self,
        catalogue: Catalogue,
        access: ApiKey | VertexAi,
        *,
        model: str,
        base_url: str | None = None,
        proxy: str | None = None,
        timeout_s: float = 60.0,
        connections: int = 16,
        flex: bool = False,
        video: VideoTerms | None = None,
    ) -> None:
        """`timeout_s` bounds one request. It includes waiting for one of the `connections`: make no more requests.

        `flex` asks at half the price and may be made to wait for minutes, or be turned away, when Gemini is busy.

        `video`: how it sees the clips of questions.

        Raises:
            ConfigurationError: the key is empty.

        """
        if access == ApiKey(""):  # the SDK would look for another one in the environment
            raise ConfigurationError("GEMINI_API_KEY is empty; set it, or VIBESTREAM_LLM=local")
        self._access = access
        self._rubric: Rubric = compile_rubric(catalogue, load_prompt("vibe", RubricFile), model)
        self._schema_bytes = len(msgspec.json.encode(self._rubric.schema))
        self._model = model
        self._base_url = base_url or _default_url(access)
        self._proxy = proxy
        self._timeout_ms = round(timeout_s * 1_000)
        self._connections = connections
        self._tier = types.ServiceTier.FLEX if flex else None
        self._video = video or VideoTerms()
        self._opening = asyncio.Lock()
        self._session: ClientSession | None = None
        self._client: genai.Client | None = None

    @property
    def version(self) -> AnnotatorVersion:
        """Model, prompt, and the hash of rubric and schema."""
        return self._rubric.version

    @property
    def sampling(self) -> str:
        """Temperature and thinking."""
        return f"temperature=0 {_thinking(self._model)}"

    @property
    def model(self) -> str:
        """Its name."""
        return self._model

    def most(self, questions: Sequence[Question], room: int = 1) -> Usage:
        """Return a bound: no token is shorter than a byte, and the length of the answer is limited."""
        videos = sum(len(fence({"0" * 20: question}, "0" * 16).encode()) for question in questions)
        known = len(self._rubric.instruction.encode()) + self._schema_bytes + len(_REPAIR) + _TOKENS_AROUND
        seen = sum(self._video.most(one.clip) + len(ATTACHED) for one in questions if one.clip)
        return Usage(known + videos + seen, room * _room(questions))

    async def ask(self, questions: Sequence[Question], *, room: int = 1, repair: bool = False) -> Call:
        """Make one request; see `Llm`."""
        nonce = secrets.token_hex(8)
        asked = {f"{nonce}-{i}": question for i, question in enumerate(questions)}
        contents = fence(asked, nonce) + (_REPAIR if repair else "")
        config = self._config(room * _room(questions))
        started = time.perf_counter()
        try:
            client = await self.open()
            if (clip := questions[0].clip) is None:
                response = await client.aio.models.generate_content(model=self._model, contents=contents, config=config)
            else:
                response = await self._watch(client, clip, contents, config)
        except VideoRefused as error:
            call = Call(Permanent("refused", str(error)[:300]), NOTHING)
        except REQUEST_ERRORS as error:
            failure = of_error(error, self._model)
            unknown = isinstance(failure, Retry) and failure.cause not in _UNBILLED
            call = Call(failure, None if unknown else NOTHING)
        else:
            call = read_response(response, asked)
        count(self._model, call, time.perf_counter() - started)
        return call

    async def _watch(
        self, client: genai.Client, clip: Clip, text: str, config: types.GenerateContentConfig
    ) -> types.GenerateContentResponse:
        config.media_resolution = media_resolution(self._video)
        async with attached(client, clip, self._video) as part:
            message = types.Content(role="user", parts=[types.Part(text=text + ATTACHED), part])
            return await client.aio.models.generate_content(model=self._model, contents=message, config=config)

    async def close(self) -> None:
        """Close the connections; no more can be asked afterwards."""
        if self._client is not None:
            await self._client.aio.aclose()
            self._client.close()
        if self._session is not None:
            await self._session.close()

    def _config(self, max_tokens: int) -> types.GenerateContentConfig:
        return types.GenerateContentConfig(
            system_instruction=self._rubric.instruction,
            response_mime_type="application/json",
            response_json_schema=self._rubric.schema,
            temperature=0.0,
            service_tier=self._tier,
            max_output_tokens=max_tokens,
            thinking_config=_thinking(self._model),
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            automatic_continuation=False,
        )

    def batched(self, asked: Mapping[str, Question], nonce: str, room: int = 1) -> types.InlinedRequest:
        """Return the same request as a batch job takes it: the Batch API knows `response_schema` only."""
        config = self._config(room * _room(list(asked.values())))
        config.response_json_schema, config.response_schema = None, dict(self._rubric.schema)
        return types.InlinedRequest(model=self._model, contents=fence(asked, nonce), config=config)

    async def open(self) -> genai.Client:
        """Return the client, made at the first call; `close` closes it."""
        async with self._opening:
            if self._client is None:
                # The SDK would make a session without a bound of its own; this one it uses and leaves to us to close.
                self._session = ClientSession(connector=TCPConnector(limit=self._connections), proxy=self._proxy)
                # It loads certificates for a quarter of a second.
                self._client = await asyncio.to_thread(self._make_client, self._session)
            return self._client

    def _make_client(self, session: ClientSession) -> genai.Client:
        options = types.HttpOptions(
            base_url=self._base_url,
            api_version="v1beta1" if isinstance(self._access, VertexAi) else "v1beta",
            timeout=self._timeout_ms,
            aiohttp_client=session,
            retry_options=types.HttpRetryOptions(attempts=1),
        )
        match self._access:
            case ApiKey(key):
                return genai.Client(enterprise=False, api_key=key, http_options=options)
            case VertexAi(project, location, credentials):
                return genai.Client(
                    enterprise=True, project=project, location=location, credentials=credentials, http_options=options
                )


def _default_url(access: ApiKey | VertexAi) -> str:
    if isinstance(access, ApiKey):
        return _BASE_URL
    region = "" if access.location == "global" else f"{access.location}-"
    return f"https://{region}aiplatform.googleapis.com/"


def _room(questions: Sequence[Question]) -> int:
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


def read_response(response: types.GenerateContentResponse, asked: Mapping[str, Question]) -> Call:
    """Return how the request ended that asked `asked`, and what it is billed."""
    usage = _usage(response.usage_metadata)
    fault = of_response(response)
    return Call(read_outcome(response.text or "", asked) if fault is None else fault, usage)


def _usage(reported: types.GenerateContentResponseUsageMetadata | None) -> Usage | None:
    if reported is None:
        return None
    thoughts = reported.thoughts_token_count or 0
    return Usage(
        reported.prompt_token_count or 0,
        (reported.candidates_token_count or 0) + thoughts,
        min(reported.cached_content_token_count or 0, reported.prompt_token_count or 0),
    )


def count(model: str, call: Call, seconds: float | None = None) -> None:
    """Count a request, how long it took (none of its own in a batch job) and its tokens."""
    count_request("gemini", model, seconds, "answered" if isinstance(call.outcome, Replied) else call.outcome.cause)
    if call.usage is not None:
        count_tokens("gemini", model, call.usage.input_tokens, call.usage.output_tokens)
