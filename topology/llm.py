"""Gemini as the settings have it, with its answers, its money and its limits around it."""

import math
from dataclasses import dataclass, replace

from models.gemini import ApiKey, Gemini, VertexAi
from models.llm_annotator import LlmAnnotator, Pace, RateLimits
from models.llm_budget import Budget
from models.llm_cache import merge
from models.llm_cost import price_of
from models.llm_state import Limits, LlmMemory, LlmState
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError
from topology.media import video_terms
from topology.settings import Settings


def make_gemini(settings: Settings, catalogue: Catalogue, *, flex: bool = False) -> Gemini:
    """Return Gemini alone: by key, or through Vertex AI where the settings name a project.

    Raises:
        ConfigurationError: neither a key nor a project is set.

    """
    project = settings.gemini_project
    return Gemini(
        catalogue,
        VertexAi(project, settings.gemini_location) if project else ApiKey(settings.gemini_api_key),
        model=settings.gemini_model,
        base_url=settings.gemini_base_url or None,
        proxy=settings.gemini_proxy or None,
        timeout_s=settings.gemini_timeout_s,
        connections=settings.llm_concurrency,
        flex=flex,
        video=video_terms(settings),
    )


def make_llm(settings: Settings, catalogue: Catalogue, *, patient: bool = True) -> LlmAnnotator:
    """Return the annotator; it opens `llm_state`, which other workers of this machine may share.

    One that is not `patient` raises at the first failure.

    Raises:
        ConfigurationError: no key, no price, or the state can't be opened.

    """
    gemini = make_gemini(settings, catalogue)
    price = price_of(settings.gemini_model, settings.llm_price)
    limits = Limits(settings.llm_usd_per_day or math.inf, settings.llm_usd_per_hour or math.inf)
    shared = shared_llm(settings)
    state = shared.memory if shared else LlmState(settings.llm_state_path, merge)
    pace = pace_of(settings)
    if not patient:
        pace = replace(pace, tries=1, tries_at_limit=1)
    return LlmAnnotator(
        gemini, catalogue, state, Budget(state, price, limits), pace=pace, limits=shared.limits if shared else None
    )


def pace_of(settings: Settings) -> Pace:
    """Return how hard the settings let the LLM be tried."""
    return Pace(
        requests_per_minute=settings.llm_requests_per_minute,
        tokens_per_minute=settings.llm_tokens_per_minute,
        concurrency=settings.llm_concurrency,
        items_per_request=settings.llm_items_per_request,
        sharing=settings.llm_sharing,
    )


@dataclass(frozen=True)
class SharedLlm:
    """What the workers of several machines have in common."""

    memory: LlmMemory
    limits: RateLimits


def shared_llm(settings: Settings) -> SharedLlm | None:
    """Return what lies in the Redis that the settings name, None if they name none.

    Raises:
        ConfigurationError: the client is not installed, or the Redis can't be used.
        AnnotatorUnavailable: it does not answer.

    """
    if not settings.llm_redis:
        return None
    try:
        from models.llm_redis import connect
        from models.llm_redis_memory import RedisMemory
        from models.llm_redis_window import SharedWindow
    except ImportError as error:
        raise ConfigurationError(
            "VIBESTREAM_LLM_REDIS needs the package redis: pip install 'vibestream[redis]', or unset it"
        ) from error
    client, prefix = connect(settings.llm_redis), settings.topic_prefix

    def window(what: str, limit: float) -> SharedWindow:
        # A quota is of one model.
        return SharedWindow(client, f"{prefix}llm:{settings.gemini_model}:{what}", limit, settings.gemini_timeout_s)

    limits = RateLimits(
        window("requests", settings.llm_requests_per_minute), window("tokens", settings.llm_tokens_per_minute)
    )
    return SharedLlm(RedisMemory(client, merge, prefix), limits)
