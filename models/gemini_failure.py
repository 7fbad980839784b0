"""What went wrong with a request to Gemini, and what to do about it: the one place that decides it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import aiohttp
import msgspec
from google.auth.exceptions import GoogleAuthError
from google.genai import types
from google.genai.errors import APIError
from msgspec import Struct, field

from models.llm_outcome import Park, Permanent, Retry

# What the SDK raises inside the call over a reply that is no JSON, no UTF-8 or not of Gemini's shape.
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError)

REQUEST_ERRORS = (APIError, GoogleAuthError, TimeoutError, aiohttp.ClientError, OSError, *_UNREADABLE)

# An operator has to mend it; he should not have to restart the workers as well.
_LOOK_AGAIN_S = 300.0
# A service that wants to be left alone for longer than this has a quota of more than a minute.
_PATIENCE_S = 120.0

Failure = Retry | Permanent | Park


def of_error(error: Exception, model: str) -> Failure:
    """Return what an exception of `REQUEST_ERRORS` means."""
    if isinstance(error, APIError):
        return _of_status(error, model)
    if isinstance(error, GoogleAuthError):
        return Park("credentials", f"Google's credentials can't be used: {str(error)[:200]}", _LOOK_AGAIN_S)
    if isinstance(error, TimeoutError):
        return Retry("timeout", "no answer from Gemini in time; see VIBESTREAM_GEMINI_TIMEOUT_S")
    if isinstance(error, _UNREADABLE):
        return Retry(
            "unreadable",
            f"200, but no answer of Gemini's shape ({type(error).__name__}): a proxy may stand in between; "
            "check VIBESTREAM_GEMINI_BASE_URL",
        )
    return Retry("network", f"Gemini can't be reached ({type(error).__name__}: {error}); check the network")


def of_response(response: types.GenerateContentResponse) -> Failure | None:
    """Return why a reply with status 200 holds no answer, or None where it has a text to read."""
    feedback = response.prompt_feedback
    if feedback and feedback.block_reason:
        return Permanent("refused", f"Gemini blocked the prompt: {feedback.block_reason.name}")
    if not response.candidates:
        if response.usage_metadata is None:
            return Retry("unreadable", "200, but neither candidates nor usage in it; check VIBESTREAM_GEMINI_BASE_URL")
        return Permanent("refused", "Gemini returned no candidate")
    finish = response.candidates[0].finish_reason
    name = finish.name if finish else "none"
    match name:
        case "STOP" | "none" | "FINISH_REASON_UNSPECIFIED":
            return None
        case "MAX_TOKENS" | "CONTINUATION":
            return Retry("cut_off", f"the answer was cut off: {name}")
        case "OTHER" | "MALFORMED_RESPONSE":
            return Retry("malformed", f"Gemini stopped without an answer: {name}")
        case _:
            return Permanent("refused", f"Gemini refused to answer: {name}")


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


def _of_status(error: APIError, model: str) -> Failure:
    body = _body(error)
    said = (error.message or "").strip()[:200]
    match error.code:
        case 400 if any(detail.reason == "API_KEY_INVALID" for detail in body.details):
            return _refused_key(400)
        case 400 if body.status == "FAILED_PRECONDITION":
            return Park(
                "credentials", f"400: the project may not use Gemini yet: {said}; mend its billing or region",
                _LOOK_AGAIN_S,
            )  # fmt: skip
        case 400 | 413:
            return Permanent("rejected", f"{error.code}: Gemini called the request invalid: {said}")
        case 401:
            return _refused_key(401)
        case 403:
            return Park(
                "credentials",
                f"403: GEMINI_API_KEY may not do this: {said}; enable the Gemini API for its project or lift the "
                "key's restrictions",
                _LOOK_AGAIN_S,
            )
        case 404:
            return Park(
                "model",
                f"404: there is no model {model!r} here; check VIBESTREAM_GEMINI_MODEL and VIBESTREAM_GEMINI_BASE_URL",
                _LOOK_AGAIN_S,
            )
        case 429:
            return _out_of_quota(body)
        case _:
            return Retry("overloaded", f"{error.code}: Gemini failed: {said}; try again later", _delay(body))


def _refused_key(code: int) -> Park:
    return Park("credentials", f"{code}: GEMINI_API_KEY was refused; set a valid key and restart", _LOOK_AGAIN_S)


def _out_of_quota(body: _Error) -> Failure:
    quotas = [violation.quota_id for detail in body.details for violation in detail.violations]
    delay = _delay(body)
    if any("PerDay" in quota for quota in quotas):
        wait = delay or seconds_to_reset(datetime.now().astimezone())
        return Park("quota", f"429: the project's daily quota is used up; it resets in {wait:.0f} s; or raise it", wait)
    if delay > _PATIENCE_S:
        return Park("quota", f"429: the project's quota is used up; retry after {delay:g} s", delay)
    after = f"; retry after {delay:g} s" if delay else ""
    return Retry("rate_limit", f"429: the project's rate limit is reached; ask less often{after}", delay)


def seconds_to_reset(now: datetime) -> float:
    """Return the seconds until daily quotas begin again: at midnight in California."""
    try:
        there = now.astimezone(ZoneInfo("America/Los_Angeles"))
    except ZoneInfoNotFoundError:  # no time zones on this machine: look again in an hour
        return 3_600.0
    midnight = (there + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight.timestamp() - there.timestamp()


def _delay(body: _Error) -> float:
    """Return the seconds of RetryInfo, 0 where there is none."""
    for detail in body.details:
        try:
            return float(detail.retry_delay.removesuffix("s"))
        except ValueError:
            continue
    return 0.0


def _body(error: APIError) -> _Error:
    try:
        return msgspec.convert(error.details, _Body).error
    except msgspec.ValidationError:  # a gateway's error page says no more than its status
        return _Error()
