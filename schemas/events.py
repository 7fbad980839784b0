"""What producers send: uploads and watches."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.fields import DurationMs, EpochMs, Id, Language, SchemaVersion

UNKNOWN_CREATOR = "-"
"""The creator_id of a text from a corpus that does not say whose it is."""


class VideoUpload(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A video was uploaded or its text was edited. Key: video_id. A record without a value takes the video down."""

    schema_version: SchemaVersion
    video_id: Id
    creator_id: Id
    uploaded_at_ms: EpochMs
    title: Annotated[str, Meta(max_length=500)] = ""
    description: Annotated[str, Meta(max_length=5_000)] = ""
    hashtags: Annotated[tuple[Annotated[str, Meta(max_length=100)], ...], Meta(max_length=50)] = ()
    language: Language | None = None
    transcript: Annotated[str, Meta(max_length=50_000)] = ""
    duration_ms: DurationMs | None = None
    media_uri: Annotated[str, Meta(max_length=2_000)] | None = None


class WatchEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user watched (part of) a video. Key: user_id."""

    schema_version: SchemaVersion
    event_id: Id
    user_id: Id
    session_id: Id
    video_id: Id
    watched_at_ms: EpochMs
    watch_ms: DurationMs
    duration_ms: DurationMs
    liked: bool = False
    shared: bool = False
    followed: bool = False
    commented: bool = False
    disliked: bool = False
