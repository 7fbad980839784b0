"""The topics as an AsyncAPI 3 document, made from the topic list and the record types."""

from typing import Any

import msgspec

from schemas.annotation import Annotation, MediaRequest, ReviewRequest
from schemas.candidates import SessionCandidates
from schemas.dead_letter import DeadLetter
from schemas.events import VideoUpload, WatchEvent
from topology.topics import (
    ANNOTATIONS,
    DEAD_LETTERS,
    MEDIA_REQUESTS,
    REVIEW_REQUESTS,
    SESSION_CANDIDATES,
    TOPICS,
    USER_STATES,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)

_RECORDS: dict[str, type[msgspec.Struct]] = {
    VIDEO_UPLOADS: VideoUpload,
    WATCH_EVENTS: WatchEvent,
    ANNOTATIONS: Annotation,
    REVIEW_REQUESTS: ReviewRequest,
    MEDIA_REQUESTS: MediaRequest,
    SESSION_CANDIDATES: SessionCandidates,
    DEAD_LETTERS: DeadLetter,
}
_RECEIVED = (VIDEO_UPLOADS, WATCH_EVENTS)
_ABOUT = {
    VIDEO_UPLOADS: "Send every upload and every edit here; a record without a value takes the video down.",
    WATCH_EVENTS: "Send every watch here.",
    ANNOTATIONS: "Read the attributes of videos here: compacted, the record of highest order per video counts.",
    REVIEW_REQUESTS: "Internal: what the student leaves to the LLM.",
    MEDIA_REQUESTS: "Internal: the uploads whose video is to be looked at.",
    SESSION_CANDIDATES: "Read the candidate lists of sessions here.",
    DEAD_LETTERS: "Read what could not be used here.",
}


def document() -> str:
    """Return the document as JSON."""
    _, schemas = msgspec.json.schema_components(_RECORDS.values(), ref_template="#/components/schemas/{name}")
    messages = {
        record.__name__: {
            "name": record.__name__,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{record.__name__}"},
        }
        for record in _RECORDS.values()
    }
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for spec in TOPICS:
        if spec.name == USER_STATES:
            continue  # the session role's own, in MessagePack
        record = _RECORDS[spec.name].__name__
        channels[spec.name] = {
            "address": spec.name,
            "description": f"{_ABOUT[spec.name]} Record key: {spec.key}.",
            "messages": {record: {"$ref": f"#/components/messages/{record}"}},
            "bindings": {
                "kafka": {"topicConfiguration": {"cleanup.policy": [spec.cleanup]}, "bindingVersion": "0.5.0"}
            },
        }
        action = "receive" if spec.name in _RECEIVED else "send"
        operations[f"{action}-{spec.name}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{spec.name}"},
        }
    made = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "vibestream",
            "version": "1",
            "description": "Streaming annotation of video uploads and attribute-restricted candidate lists.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }
    return msgspec.json.format(msgspec.json.encode(made), indent=2).decode()
