"""What a recommender reads: the candidate list of a session."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.fields import EpochMs, Id, SchemaVersion

Lane = Literal["restricted", "unrestricted", "popular", "co_watched", "new", "newest"]
Fallback = Literal["none", "any_attribute", "uncertain", "co_watched", "popular", "newest"]


class ScoreParts(Struct, frozen=True, omit_defaults=True, gc=False):
    """What a score is the sum of, each part as it was weighted; 0 where the lane does not look at it.

    `cosine` to the user's taste, `probability` (the logarithm of the student's p for the attribute), `popularity` among
    all users, `co_watched` with what the user watched, and, of a new video, the `draw` from what its rate may be.
    """

    cosine: float = 0.0
    probability: float = 0.0
    popularity: float = 0.0
    co_watched: float = 0.0
    draw: float = 0.0


class Candidate(Struct, frozen=True, omit_defaults=True, gc=False):
    """A video, the lane that brought it and, in the restricted lane, the attribute it was retrieved for.

    `uncertain`: the attribute is only probable, or decided without a certificate; nothing is guaranteed of it.
    `parts` add up to `score`; scores of different lanes don't compare.
    """

    video_id: Id
    score: float
    lane: Lane
    attribute: Id | None = None
    uncertain: bool = False
    parts: ScoreParts | None = None


class SessionCandidates(Struct, frozen=True, kw_only=True):
    """The videos to rank for a session, best first, and how they came to be. Key: session_id.

    `quotas` are places per attribute, `removed` counts what each filter took out. `fallback` is the last resort that
    some place was filled from, in this order. none: every lane filled its places (or left them to the unrestricted
    one), those of an attribute with videos that are decided to have it; any_attribute: with videos that have another
    of the list's attributes; uncertain: with such as probably have the attribute; co_watched: with what users of the
    same watches watch; popular and newest: with these, whatever their attributes.
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
    labeler: Annotated[str, Meta(description="which satisfaction the user's state was last changed with")] = ""
