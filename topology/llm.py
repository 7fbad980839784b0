"""Gemini as the settings have it, with its answers, its money and its limits around it."""

import math
from dataclasses import replace

from models.gemini import ApiKey, Gemini, VertexAi
from models.llm_annotator import LlmAnnotator, Pace
from models.llm_budget import Budget
from models.llm_cache import merge
from models.llm_cost import price_of
from models.llm_state import Limits, LlmState
from schemas.attributes import Catalogue
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
    state = LlmState(settings.llm_state_path, merge)
    pace = pace_of(settings)
    if not patient:
        pace = replace(pace, tries=1, tries_at_limit=1)
    return LlmAnnotator(gemini, catalogue, state, Budget(state, price, limits), pace=pace)


def pace_of(settings: Settings) -> Pace:
    """Return how hard the settings let the LLM be tried."""
    return Pace(
        requests_per_minute=settings.llm_requests_per_minute,
        tokens_per_minute=settings.llm_tokens_per_minute,
        concurrency=settings.llm_concurrency,
        items_per_request=settings.llm_items_per_request,
        sharing=settings.llm_sharing,
    )
