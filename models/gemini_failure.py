"""What went wrong with a request to Gemini, and whose fault it is: the one place that decides it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import aiohttp
import msgspec
from google.genai import types
from google.genai.errors import APIError
from msgspec import Struct, field

from schemas.errors import AnnotatorUnavailable

# What the SDK raises inside the call over a reply that is no JSON, no UTF-8 or not of Gemini's shape.
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError)

REQUEST_ERRORS = (APIError, TimeoutError, aiohttp.ClientError, OSError, *_UNREADABLE)

Kind = Literal["refused", "rejected", "cut_off", "malformed", "missing"]


@dataclass(frozen=True)
class Unanswered:
    """A request that Gemini dealt with and that brought no answer.

    refused: blocked for its content, asking again is useless. rejected: the request itself was called invalid (400).
    cut_off, malformed, missing: the answer ended early, broke the schema or left a video out; one more try is fair.
    """

    kind: Kind
    reason: str


def of_error(error: Exception, model: str) -> AnnotatorUnavailable | Unanswered:
    """Return what an exception of `REQUEST_ERRORS` means."""
    if isinstance(error, APIError):
        return _of_status(error, model)
    if isinstance(error, TimeoutError):
        return AnnotatorUnavailable("no answer from Gemini in time; try again, or raise timeout_s")
    if isinstance(error, _UNREADABLE):
        return AnnotatorUnavailable(
            f"200, but no answer of Gemini's shape ({type(error).__name__}): a proxy may stand in between; "
            "check VIBESTREAM_GEMINI_BASE_URL"
        )
    return AnnotatorUnavailable(f"Gemini can't be reached ({type(error).__name__}: {error}); check the network")


def of_response(response: types.GenerateContentResponse) -> AnnotatorUnavailable | Unanswered | None:
    """Return why a reply with status 200 holds no answer, or None where it has a text to read."""
    feedback = response.prompt_feedback
    if feedback and feedback.block_reason:
        return Unanswered("refused", f"Gemini blocked the prompt: {feedback.block_reason.name}")
    if not response.candidates:
        if response.usage_metadata is None:
            return AnnotatorUnavailable("200, but neither candidates nor usage in it; check VIBESTREAM_GEMINI_BASE_URL")
        return Unanswered("refused", "Gemini returned no candidate")
    finish = response.candidates[0].finish_reason
    name = finish.name if finish else "none"
    match name:
        case "STOP" | "none" | "FINISH_REASON_UNSPECIFIED":
            return None
        case "MAX_TOKENS" | "CONTINUATION":
            return Unanswered("cut_off", f"the answer was cut off: {name}")
        case "OTHER" | "MALFORMED_RESPONSE":
            return Unanswered("malformed", f"Gemini stopped without an answer: {name}")
        case _:
            return Unanswered("refused", f"Gemini refused to answer: {name}")


class _Violation(Struct):
    quota_id: str = field(name="quotaId", default="")


class _Detail(Struct):
    reason: str = ""
    retry_delay: str = field(name="retryDelay", default="")
    violations: Sequence[_Violation] = ()


class _Error(Struct):
    status: str = ""
    details: Sequence[_Detail] = ()


class _Body(Struct):
    error: _Error = field(default_factory=_Error)


def _of_status(error: APIError, model: str) -> AnnotatorUnavailable | Unanswered:
    body = _body(error)
    said = (error.message or "").strip()[:200]
    match error.code:
        case 400 if any(detail.reason == "API_KEY_INVALID" for detail in body.details):
            return _refused_key(400)
        case 400 if body.status == "FAILED_PRECONDITION":
            return AnnotatorUnavailable(f"400: the project may not use Gemini yet: {said}; mend its billing or region")
        case 400 | 413:
            return Unanswered("rejected", f"{error.code}: Gemini called the request invalid: {said}")
        case 401:
            return _refused_key(401)
        case 403:
            return AnnotatorUnavailable(
                f"403: GEMINI_API_KEY may not do this: {said}; enable the Gemini API for its project or lift the "
                "key's restrictions"
            )
        case 404:
            return AnnotatorUnavailable(
                f"404: there is no model {model!r} here; check VIBESTREAM_GEMINI_MODEL and VIBESTREAM_GEMINI_BASE_URL"
            )
        case 429:
            return _out_of_quota(body)
        case _:
            return AnnotatorUnavailable(f"{error.code}: Gemini failed: {said}; try again later")


def _refused_key(code: int) -> AnnotatorUnavailable:
    return AnnotatorUnavailable(f"{code}: GEMINI_API_KEY was refused; set a valid key and restart")


def _out_of_quota(body: _Error) -> AnnotatorUnavailable:
    quotas = [violation.quota_id for detail in body.details for violation in detail.violations]
    delay = next((detail.retry_delay for detail in body.details if detail.retry_delay), "")
    after = f"; retry after {delay.removesuffix('s')} s" if delay else ""
    if any("PerDay" in quota for quota in quotas):
        return AnnotatorUnavailable(f"429: the project's daily quota is used up; wait for its reset or raise it{after}")
    return AnnotatorUnavailable(f"429: the project's rate limit is reached; ask less often{after}")


def _body(error: APIError) -> _Error:
    try:
        return msgspec.convert(error.details, _Body).error
    except msgspec.ValidationError:  # a gateway's error page says no more than its status
        return _Error()
