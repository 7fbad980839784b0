"""Which attributes are certified travels from the bundle into every annotation and review request."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from models.bundle import MANIFEST, default_bundle
from models.media.decode import DecodePool, Plan
from models.media.fetch import MediaFetcher
from models.media.look import Looker
from models.media.rules import MediaRules
from models.student import Student
from schemas.annotation import Annotation, AnnotatorVersion, MediaRequest
from schemas.attributes import load_catalogue
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from streams.annotate import AnnotateStage
from streams.media import MediaStage
from streams.record import Record

NOW_MS = 1_750_000_000_000
PROVEN_WITH = AnnotatorVersion("gemini", "gemini-2.5-pro", "vibe", 3, "abc")


def bundle_certified_for(attribute: str, folder: Path) -> Path:
    bundle = Path(shutil.copytree(default_bundle(), folder / "bundle"))
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    for entry in manifest["attributes"]:
        entry["certified"] = entry["id"] == attribute
    manifest["certificate"]["annotator"] = msgspec.to_builtins(PROVEN_WITH)
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    return bundle


@pytest.mark.parametrize("role", ["annotate", "media"])
async def test_every_annotation_says_of_every_attribute_whether_it_is_certified(tmp_path: Path, role: str) -> None:
    catalogue = load_catalogue()
    student = Student.load(bundle_certified_for("funny", tmp_path), catalogue)
    topics = {"annotations": "annotations", "review_requests": "review-requests", "dead_letters": "dead-letters"}
    uploads = [
        VideoUpload(
            schema_version=1, video_id=f"v{i}", creator_id="c", uploaded_at_ms=NOW_MS, title=title,
            media_uri=None if role == "annotate" else "https://refused.example.com/v.mp4",
        )
        for i, title in enumerate(
            title for attribute in catalogue.attributes for title in attribute.positive_examples
        )
    ]  # fmt: skip
    if role == "annotate":
        stage, values = AnnotateStage(student, **topics), [encode(upload) for upload in uploads]
    else:
        stage = MediaStage(student, Looker(MediaFetcher(MediaRules([])), DecodePool(), Plan()), **topics)
        values = [encode(MediaRequest(schema_version=1, upload=upload, received_at_ms=NOW_MS)) for upload in uploads]
    effects = await stage.run([Record("in", 0, i, NOW_MS, b"v%d" % i, value) for i, value in enumerate(values)])
    await stage.close()
    assert {message.topic for message in effects.messages} == {"annotations", "review-requests"}
    for message in effects.messages:
        assert message.value is not None
        content = json.loads(message.value)
        scores = content.get("annotation", content)["attributes"]
        if message.topic == "review-requests":
            assert content["certified_with"] == msgspec.to_builtins(PROVEN_WITH)
        assert {name: score["certified"] for name, score in scores.items()} == {
            name: name == "funny" for name in catalogue.ids
        }


def test_an_annotation_from_before_there_were_certificates_is_not_certified() -> None:
    old = (
        b'{"schema_version":1,"video_id":"v","status":"final","received_at_ms":1,"annotated_at_ms":2,'
        b'"attributes":{"funny":{"p":0.9,"band":"accept","label":true,"source":"student"}}}'
    )
    annotation = Decoder(Annotation).decode(old)
    assert not annotation.attributes["funny"].certified
    assert encode(annotation) == old
