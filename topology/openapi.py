"""The session role's HTTP endpoint as an OpenAPI 3.1 document, made from the structs."""

from typing import Any

import msgspec

from schemas.candidates import SessionCandidates
from schemas.requests import CandidateList, CandidatesRequest, OwnedPartitions, Refusal

_RECORDS = (SessionCandidates, CandidatesRequest, CandidateList, OwnedPartitions, Refusal)
_PREFIX = "#/components/schemas/"


def document() -> str:
    """Return the document as JSON."""
    _, schemas = msgspec.json.schema_components(_RECORDS, ref_template=_PREFIX + "{name}")
    made: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "vibestream session worker",
            "version": "1",
            "description": (
                "Candidate lists by HTTP, from every session worker at its metrics port. A worker answers for the users"
                " whose partition of watch-events it reads. One request a connection."
            ),
        },
        "security": [{}, {"token": []}],
        "paths": {
            "/sessions/{session_id}/candidates": {
                "get": {
                    "operationId": "lastList",
                    "summary": "The last list of a session that this worker made.",
                    "parameters": [
                        {"name": "session_id", "in": "path", "required": True, "schema": {"type": "string"}},
                    ],
                    "responses": {
                        "200": _answer("As it is on session-candidates.", SessionCandidates),
                        "404": _answer("Not made here, or forgotten.", Refusal),
                        **_unauthorized(),
                    },
                }
            },
            "/candidates": {
                "post": {
                    "operationId": "makeList",
                    "summary": "Make a list now. Nothing that is remembered of the user changes.",
                    "requestBody": {"required": True, "content": _content(CandidatesRequest)},
                    "responses": {
                        "200": _answer("A list.", CandidateList),
                        "400": _answer("The request is malformed, or asks for what there is not.", Refusal),
                        "413": _answer("The body is too large.", Refusal),
                        "421": _answer("Another worker reads this user's partition; see `partition`.", Refusal),
                        "503": _later("Too many wait, or the users' states are being recovered.", Refusal),
                        **_unauthorized(),
                    },
                }
            },
            "/partitions": {
                "get": {
                    "operationId": "ownedPartitions",
                    "summary": "Whose users this worker answers for now.",
                    "responses": {
                        "200": _answer("The partitions of watch-events.", OwnedPartitions),
                        **_unauthorized(),
                    },
                }
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Where VIBESTREAM_HTTP_TOKEN is set."}
            },
        },
    }
    return msgspec.json.format(msgspec.json.encode(made), indent=2).decode()


def _content(record: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _PREFIX + record.__name__}}}


def _answer(description: str, record: type[msgspec.Struct]) -> dict[str, Any]:
    return {"description": description, "content": _content(record)}


def _later(description: str, record: type[msgspec.Struct]) -> dict[str, Any]:
    seconds = {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds."}
    return {**_answer(description, record), "headers": {"Retry-After": seconds}}


def _unauthorized() -> dict[str, Any]:
    return {"401": {"description": "The token is missing or wrong.", "content": {"text/plain": {}}}}
