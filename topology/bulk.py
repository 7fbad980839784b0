"""Gemini at half the price, for corpora: by batch jobs, or at the flex tier."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from models.annotator import Annotator, Answered, Outcome, Question
from models.bulk import BulkAnnotator, BulkPace
from models.llm_annotator import LlmAnnotator
from models.llm_budget import Budget
from models.llm_cache import merge
from models.llm_cost import Price, price_of
from models.llm_state import Limits, LlmState
from schemas.attributes import Catalogue, load_catalogue
from schemas.errors import ConfigurationError, InvalidRecord
from schemas.events import VideoUpload
from schemas.wire import Decoder
from topology.llm import make_gemini, pace_of, shared_llm
from topology.replay import read_events
from topology.settings import Settings, with_changes

Bulk = Literal["batch", "flex"]
"""batch: answers within a day, all questions in one call. flex: answers within minutes, as in the stream."""

# As published for both; genai-prices lists neither.
_HALF = 0.5
_FLEX_TIMEOUT_S = 900.0


def make_bulk(settings: Settings, catalogue: Catalogue, how: Bulk) -> Annotator:
    """Return an annotator that shares answers and budget with the stream; unfinished batch jobs are found again.

    Raises:
        ConfigurationError: no key, no price, the state can't be opened, or batch jobs through Vertex AI are asked for.

    """
    if how == "batch" and settings.gemini_project:
        raise ConfigurationError(
            "batch jobs go to the Gemini API by key, not to Vertex AI: unset VIBESTREAM_GEMINI_PROJECT, or use flex"
        )
    if how == "flex":
        settings = with_changes(settings, gemini_timeout_s=_FLEX_TIMEOUT_S)
    gemini = make_gemini(settings, catalogue, flex=how == "flex")
    full = price_of(settings.gemini_model, settings.llm_price)
    shared = shared_llm(settings)
    state = shared.memory if shared else LlmState(settings.llm_state_path, merge)
    limits = Limits(settings.llm_usd_per_day or math.inf, settings.llm_usd_per_hour or math.inf)
    budget = Budget(state, bulk_price(full), limits)
    if how == "batch":
        pace = BulkPace(items_per_request=settings.llm_items_per_request, sharing=settings.llm_sharing)
        return BulkAnnotator(gemini, catalogue, state, budget, settings.llm_state_path / "batches", pace=pace)
    return LlmAnnotator(
        gemini, catalogue, state, budget, pace=pace_of(settings), limits=shared.limits if shared else None
    )


def bulk_price(full: Price) -> Price:
    """Return what a token costs in a batch job or at the flex tier."""
    return Price(full.input * _HALF, full.output * _HALF)


async def annotate_file(settings: Settings, path: Path, out: Path, how: Bulk) -> Mapping[str, int]:
    """Ask about every attribute of every upload in a file; write a JSON line for each; return how many of each kind.

    Raises:
        ConfigurationError: a file can't be read or written, or a line is no upload.
        AnnotatorUnavailable: Gemini can't be asked now; what it was given is found again by the same command.

    """
    catalogue = load_catalogue(settings.catalogue_path)
    decode = Decoder(VideoUpload).decode
    uploads: list[VideoUpload] = []
    for number, event in enumerate(read_events(path), 1):
        try:
            uploads.append(decode(event))
        except InvalidRecord as error:
            raise ConfigurationError(f"{path}, event {number}: {error}") from error
    annotator = make_bulk(settings, catalogue, how)
    try:
        outcomes = await annotator.annotate([Question(upload, catalogue.ids) for upload in uploads])
        lines = [
            msgspec.json.encode({"video_id": upload.video_id, "annotator": annotator.version, **_told(outcome)})
            for upload, outcome in zip(uploads, outcomes, strict=True)
        ]
    finally:
        await annotator.close()
    try:
        out.write_bytes(b"".join(line + b"\n" for line in lines))
    except OSError as error:
        raise ConfigurationError(f"{out}: {error.strerror}; the answers are kept: run it again") from error
    kinds = [type(outcome).__name__.lower() for outcome in outcomes]
    return {kind: kinds.count(kind) for kind in ("answered", "declined", "postponed")}


def _told(outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome, Answered):
        return {"verdicts": outcome.verdicts}
    return {type(outcome).__name__.lower(): outcome.reason}
