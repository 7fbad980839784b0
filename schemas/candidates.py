"""What a recommender reads: the candidate list of a session."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.fields import EpochMs, Id, SchemaVersion

Lane = Literal["restricted", "unrestricted", "newest"]
Fallback = Literal["none", "newest"]


class Candidate(Struct, frozen=True, omit_defaults=True):
    """A video, the lane that brought it and, in the restricted lane, the attribute it was retrieved for."""

    video_id: Id
    score: float
    lane: Lane
    attribute: Id | None = None


class SessionCandidates(Struct, frozen=True, kw_only=True):
    """The videos to rank for a session, best first, and how they came to be. Key: session_id.

    `quotas` are places per attribute, `removed` counts what each filter took out, `fallback` says what filled a thin
    pool.
    """

    schema_version: SchemaVersion
    session_id: Id
    user_id: Id
    event_id: Annotated[str, Meta(description="the watch event that caused this list", min_length=1, max_length=200)]
    emitted_at_ms: EpochMs
    candidates: tuple[Candidate, ...]
    quotas: dict[str, int]
    removed: dict[str, int]
    fallback: Fallback
