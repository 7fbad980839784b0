"""What a caller of the session role's HTTP endpoint sends and gets."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.attributes import AttributeId
from schemas.candidates import Candidate, Fallback
from schemas.fields import EpochMs, Id, Language, SchemaVersion


class CandidatesRequest(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Ask for a list now, for a user, for attributes, or for both: then the user's taste, and these attributes only.

    It changes nothing that is remembered of the user. Policy attributes can't be asked for; the others share the
    restricted lane equally. With `language` only videos of that tag are in the list, and `exclude` counts as watched
    long ago.
    """

    user_id: Id | None = None
    attributes: Annotated[tuple[AttributeId, ...], Meta(max_length=12)] = ()
    k: Annotated[int, Meta(ge=1, le=200, description="videos in the list, at most")] = 100
    language: Language | None = None
    max_age_ms: (
        Annotated[int, Meta(ge=1, description="only videos uploaded so recently; the worker has a limit")] | None
    ) = None
    exclude: Annotated[tuple[Id, ...], Meta(max_length=500, description="videos that must not be in the list")] = ()

    def __post_init__(self) -> None:
        """Refuse a request for nobody and nothing."""
        if self.user_id is None and not self.attributes:
            raise ValueError("give user_id, attributes or both")


class CandidateList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The videos to rank, best first, and how they came to be: see SessionCandidates."""

    schema_version: SchemaVersion
    made_at_ms: EpochMs
    candidates: tuple[Candidate, ...]
    quotas: dict[str, int]
    removed: dict[str, int]
    fallback: Fallback
    user_id: Id | None = None


class Refusal(Struct, frozen=True, omit_defaults=True):
    """Why there is no list. `partition`: ask the worker that reads this partition of watch-events."""

    reason: str
    partition: int | None = None


class OwnedPartitions(Struct, frozen=True):
    """The partitions of watch-events that a worker reads now, of so many, and how a user's key decides among them."""

    partitions: tuple[int, ...]
    of: int
    partitioner: str
