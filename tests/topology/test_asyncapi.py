import json
from pathlib import Path

import jsonschema
import pytest

from schemas.annotation import Annotation, AttributeScore, StudentVersion
from schemas.events import VideoUpload
from schemas.wire import encode
from topology.asyncapi import document

COMMITTED = Path(__file__).parents[2] / "docs" / "asyncapi.json"


def test_the_committed_document_is_the_generated_one() -> None:
    assert COMMITTED.read_text().strip() == document().strip(), "write it again: make asyncapi"


def validator(record: str) -> jsonschema.Draft202012Validator:
    made = json.loads(document())
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{record}", "components": made["components"]})


def test_what_is_produced_fits_the_document() -> None:
    annotation = Annotation(
        schema_version=1, video_id="v", status="final", received_at_ms=2, annotated_at_ms=3, uploaded_at_ms=1,
        attributes={"funny": AttributeScore(0.9, "accept", True, "student")}, embedding=b"\x00\x3c",
        student=StudentVersion("nano", 1),
    )  # fmt: skip
    validator("Annotation").validate(json.loads(encode(annotation)))
    upload = VideoUpload(schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=1, hashtags=("a", "b"))
    validator("VideoUpload").validate(json.loads(encode(upload)))


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"video_id": 5}, {"video_id": ""}, {"uploaded_at_ms": -1}])
def test_what_the_stages_refuse_the_document_refuses(change: dict[str, object]) -> None:
    upload = {"schema_version": 1, "video_id": "v", "creator_id": "c", "uploaded_at_ms": 1}
    validator("VideoUpload").validate(upload)
    with pytest.raises(jsonschema.ValidationError):
        validator("VideoUpload").validate({**upload, **change})
