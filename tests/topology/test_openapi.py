import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from openapi_spec_validator import validate

from schemas.errors import InvalidRecord
from schemas.requests import CandidatesRequest, Refusal
from schemas.wire import Decoder, encode
from topology.openapi import document

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


def validator(record: str) -> jsonschema.Draft202012Validator:
    made = json.loads(document())
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{record}", "components": made["components"]})


def test_the_committed_document_is_the_generated_one() -> None:
    assert COMMITTED.read_text().strip() == document().strip(), "write it again: make openapi"


def test_it_is_valid_openapi() -> None:
    validate(json.loads(document()))


def test_what_is_answered_fits_the_document() -> None:
    validator("Refusal").validate(json.loads(encode(Refusal("elsewhere", 3))))
    validator("CandidatesRequest").validate(json.loads(encode(CandidatesRequest(user_id="u", attributes=("calm",)))))


@pytest.mark.parametrize(
    "request_", [{"user_id": ""}, {"user_id": "u", "k": 0}, {"user_id": "u", "limit": 5}, {"attributes": ["No id"]}]
)
def test_what_the_endpoint_refuses_the_document_refuses(request_: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator("CandidatesRequest").validate(request_)
    with pytest.raises(InvalidRecord):
        Decoder(CandidatesRequest).decode(msgspec.json.encode(request_))
