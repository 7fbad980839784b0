"""Videos for Gemini: in the request, uploaded and waited for, or by URI; and what the annotation says of it."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from models.annotator import Answered, Question, Verdict
from models.answer import read_answers
from models.clip import Clip, VideoTerms
from models.gemini import ApiKey, Gemini
from models.llm_cache import content_key
from models.llm_outcome import Permanent, Replied, Retry
from models.media.clips import Clips
from models.media.decode import DecodeLimits, DecodePool
from models.media.fetch import MediaFetcher
from models.media.rules import MediaRules
from schemas.annotation import Annotation, AttributeScore, Media, ReviewRequest, StudentVersion
from schemas.attributes import load_catalogue
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from streams.record import Record
from streams.review import ReviewStage
from tests.fakes.gemini_server import GeminiServer, gemini_server
from tests.fakes.media import RED, video
from topology.llm import make_llm
from topology.media import make_clips
from topology.settings import Settings

NOW_MS = 1_750_000_000_000
TERMS = VideoTerms(fps=2.0, resolution="low", max_seconds=10.0, inline_bytes=4_000_000, upload_s=120)


@pytest.fixture
async def server() -> AsyncIterator[GeminiServer]:
    async with gemini_server() as running:
        running.sees = ("eerie",)
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return video(tmp_path / "red.mp4", [(RED, 2)])


def clips(folder: Path, *direct: str) -> Clips:
    pool = DecodePool(1, DecodeLimits(seconds=60))
    return Clips(MediaFetcher(MediaRules([folder.as_uri()])), pool, MediaRules(direct), TERMS)


def question(uri: str | None, *attributes: str) -> Question:
    upload = VideoUpload(
        schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=0, title="a funny day", media_uri=uri
    )
    return Question(upload, attributes or ("funny", "eerie"))


async def ask(server: GeminiServer, asked: Question, terms: VideoTerms = TERMS) -> object:
    gemini = Gemini(load_catalogue(), ApiKey("key"), model="gemini-2.5-flash", base_url=server.url, video=terms)
    try:
        return (await gemini.ask([asked])).outcome
    finally:
        await gemini.close()


def parts(server: GeminiServer) -> list[dict[str, Any]]:
    """The parts of the one message, with camel case all through: the SDK mixes it."""
    return camel(server.requests[0]["contents"][0]["parts"])


def camel(value: Any) -> Any:
    if isinstance(value, list):
        return [camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {re.sub(r"_(.)", lambda m: m[1].upper(), key): camel(one) for key, one in value.items()}


SAW = Replied({0: Answered({"funny": Verdict(True, "funny"), "eerie": Verdict(True, "[0:01] it can be seen")})})


async def test_a_small_video_goes_along_with_how_it_shall_be_seen(server: GeminiServer, path: Path) -> None:
    made = clips(path.parent)
    async with made.attach([question(path.as_uri())]) as (asked,):
        assert await ask(server, asked) == SAW
    await made.close()
    (request,) = server.requests
    text, part = parts(server)
    assert "The video itself is attached" in text["text"]
    assert part["inlineData"]["mimeType"] == "video/mp4"
    assert len(part["inlineData"]["data"]) > path.stat().st_size
    assert part["videoMetadata"] == {"fps": 2.0, "startOffset": "0s", "endOffset": "2s"}
    assert request["generationConfig"]["mediaResolution"] == "MEDIA_RESOLUTION_LOW"
    assert server.files.content == {}


async def test_a_larger_one_is_uploaded_waited_for_and_deleted(server: GeminiServer, path: Path) -> None:
    made = clips(path.parent)
    terms = VideoTerms(inline_bytes=10, upload_s=120)
    async with made.attach([question(path.as_uri())]) as (asked,):
        assert await ask(server, asked, terms) == SAW
    await made.close()
    assert server.files.content == {"f0": path.read_bytes()}
    assert parts(server)[1]["fileData"]["fileUri"] == f"{server.url}/v1beta/files/f0"
    assert server.files.deleted == ["f0"]


async def test_an_upload_that_fails_or_never_ends_is_told_apart(server: GeminiServer, path: Path) -> None:
    clip = Clip(b"d", "video/mp4", 2.0, path, size=path.stat().st_size)
    asked = Question(question(None).upload, ("funny",), clip=clip)
    server.files.ends = "FAILED"
    refused = await ask(server, asked, VideoTerms(inline_bytes=10, upload_s=120))
    assert isinstance(refused, Permanent)
    assert "can't process the video" in refused.reason
    server.files.polls = 10_000
    late = await ask(server, asked, VideoTerms(inline_bytes=10, upload_s=1.0))
    assert isinstance(late, Retry)
    assert late.cause == "timeout"
    assert (server.requests, server.files.deleted) == ([], ["f0", "f1"])


async def test_a_uri_that_the_operator_permits_is_not_fetched_here(server: GeminiServer, path: Path) -> None:
    made = clips(path.parent, "gs://bucket/")
    async with made.attach([question("gs://bucket/v.webm"), question("gs://other/v.webm")]) as (direct, other):
        assert other.clip is None
        assert await ask(server, direct) == SAW
    await made.close()
    assert parts(server)[1]["fileData"] == {
        "fileUri": "gs://bucket/v.webm", "mimeType": "video/webm",
    }  # fmt: skip


async def test_what_is_no_video_is_not_paid_for(server: GeminiServer, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    made = clips(tmp_path)
    async with made.attach([question((tmp_path / "a.mp4").as_uri()), question(None)]) as asked:
        assert [one.clip for one in asked] == [None, None]
    await made.close()


async def test_a_bound_of_the_cost_is_known_before_anything_is_sent(server: GeminiServer, path: Path) -> None:
    gemini = Gemini(load_catalogue(), ApiKey("key"), model="gemini-2.5-flash", base_url=server.url, video=TERMS)
    plain = question(None)
    short, long = (
        Question(plain.upload, plain.attributes, clip=Clip(b"d", "video/mp4", s, path)) for s in (2.0, 9_999.0)
    )
    base = gemini.most([plain]).input_tokens
    assert gemini.most([short]).input_tokens - base >= 2 * (2 * 66 + 32)
    assert gemini.most([long]).input_tokens - base >= 10 * (2 * 66 + 32)
    assert (
        gemini.most([long]).input_tokens - base < 12 * (2 * 66 + 32) + 500
    )  # and no more than the settings let it see
    assert content_key(plain, gemini) != content_key(short, gemini)
    await gemini.close()
    assert server.requests == []


def request(uri: str) -> Record:
    scores = {name: AttributeScore(0.5, "uncertain", None, "student") for name in ("funny", "eerie")}
    upload = question(uri).upload
    annotation = Annotation(
        schema_version=1, video_id="v", status="provisional", received_at_ms=NOW_MS, annotated_at_ms=NOW_MS,
        uploaded_at_ms=0, attributes=scores, student=StudentVersion("nano", 1), media=Media("used", frames=4),
    )  # fmt: skip
    asked = ReviewRequest(schema_version=1, upload=upload, annotation=annotation, attributes=("funny", "eerie"))
    return Record("review-requests", 0, 0, NOW_MS, b"v", encode(asked))


async def test_the_annotation_says_whether_the_llm_was_given_the_video_or_its_text(
    server: GeminiServer, path: Path, tmp_path: Path
) -> None:
    for sees in (True, False):
        settings = Settings(
            llm="gemini", gemini_api_key="key", gemini_base_url=server.url, gemini_video=sees,
            media_allow=path.parent.as_uri(), media_decode_s=60.0, llm_state=str(tmp_path / "llm"),
        )  # fmt: skip
        stage = ReviewStage(
            make_llm(settings, load_catalogue()), load_catalogue(), annotations="annotations", dead_letters="dead",
            clips=make_clips(settings),
        )  # fmt: skip
        effects = await stage.run([request(path.as_uri())])
        await stage.close()
        (made,) = (Decoder(Annotation).decode(m.value or b"") for m in effects.messages)
        assert made.media == Media("used", frames=4, llm="video" if sees else "text")
        eerie = made.attributes["eerie"]
        assert (eerie.label, eerie.evidence) == ((True, "[0:01] it can be seen") if sees else (False, None))


async def test_a_moment_is_no_evidence_where_no_video_was_sent(server: GeminiServer) -> None:
    server.sees = ()
    asked = question(None, "eerie")
    text = (
        '{"answers":[{"video_id":"k","verdicts":[{"attribute":"eerie","evidence":"[0:01] a knock","verdict":"yes"}]}]}'
    )
    assert read_answers(text, {"k": asked})["k"].verdicts["eerie"].label is None
    seen = Question(asked.upload, ("eerie",), clip=Clip(b"d", "video/mp4", 2.0))
    assert read_answers(text, {"k": seen})["k"].verdicts["eerie"] == Verdict(True, "[0:01] a knock")
