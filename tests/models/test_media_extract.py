"""Text of videos: read in real frames by RapidOCR, or made by an extractor of the operator's; and what fails of it."""

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from prometheus_client import REGISTRY

from models.media.decode import SOUND_HZ, DecodeLimits, DecodePool, Plan
from models.media.extract import Extractor, Extractors
from models.media.fetch import MediaFetcher
from models.media.look import Look, Looker
from models.media.on_screen import PIXELS, OnScreenText, distinct
from models.media.rules import MediaRules
from schemas.events import VideoUpload
from tests.fakes.extractors import Speech
from tests.fakes.media import GREY, caption, song, video

PLAN = Plan(frames=4, size=32, resize=32, whole=PIXELS, speech_s=1.0)


@pytest.fixture(scope="module")
def offline() -> Iterator[None]:
    """No name is looked up and no connection made: what is missing can't be downloaded."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("something wants the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture
async def reader(offline: None) -> AsyncIterator[OnScreenText]:
    made = OnScreenText.load(1)
    yield made
    await made.close()


def outcomes(kind: str) -> dict[str, float]:
    names = ("found", "none", "failed", "late")
    samples = {
        name: REGISTRY.get_sample_value("vibestream_media_texts_total", {"kind": kind, "outcome": name})
        for name in names
    }
    return {name: value or 0.0 for name, value in samples.items()}


async def looked(path: Path, *extractors: Extractor, transcript: str = "", seconds: float = 60.0) -> Look:
    upload = VideoUpload(
        schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=1, media_uri=path.as_uri(), transcript=transcript
    )
    made = Extractors(extractors, seconds, 1)
    looker = Looker(
        MediaFetcher(MediaRules([path.parent.as_uri()])), DecodePool(1, DecodeLimits(seconds=60)), PLAN, None, made
    )
    before = {kind: outcomes(kind) for kind in made.kinds}
    try:
        (look,) = await looker.look([upload])
    finally:
        await looker.close()
    for kind in made.kinds:
        grown = sum(outcomes(kind).values()) - sum(before[kind].values())
        assert grown == (0 if transcript and kind == "heard" else 1), "every text that is to be made is counted once"
    return look


async def test_text_is_read_wherever_it_stands_and_once_however_long_it_stays(
    reader: OnScreenText, tmp_path: Path
) -> None:
    scenes = [
        (caption("grandma is the best", at=(20, 310)), 2),
        (caption("wait for it", "grandma is the best", at=(20, 20)), 1),
        (GREY, 1),
    ]
    path = video(tmp_path / "a.mp4", scenes, size=(640, 360))
    look = await looked(path, reader)
    assert look.texts == {"on_screen": "grandma is the best\nwait for it"}
    assert (look.media.status, look.media.on_screen, look.media.reason) == ("used", True, None)


async def test_upright_videos_are_read_as_they_are_shown(reader: OnScreenText, tmp_path: Path) -> None:
    tall = video(tmp_path / "tall.mp4", [(caption("upside", "down", size=(360, 640)), 1)], size=(360, 640))
    assert (await looked(tall, reader)).texts == {"on_screen": "upside\ndown"}


async def test_a_video_without_text_has_none_and_nothing_is_wrong(reader: OnScreenText, tmp_path: Path) -> None:
    look = await looked(video(tmp_path / "a.mp4", [(GREY, 1)]), reader)
    assert (look.texts, look.media.on_screen, look.media.reason) == ({}, False, None)
    sound_only = await looked(song(tmp_path / "b.mp4"), reader)
    assert sound_only.texts == {}


async def test_one_line_of_a_kind_is_kept_and_no_more_than_is_ever_read() -> None:
    assert distinct(["Wait  for it!", "WAIT FOR IT", "…", "", "so?"]) == "Wait  for it!\nso?"
    endless = distinct(f"line {i} of the small print" for i in range(10**9))
    assert 1_000 <= len(endless) < 1_100


async def test_an_extractor_hears_the_first_seconds_and_the_student_only_what_it_was_distilled_with(
    tmp_path: Path,
) -> None:
    speech = Speech()
    look = await looked(song(tmp_path / "a.mp4", seconds=3), speech)
    assert look.texts == {"heard": f"{SOUND_HZ} samples"}
    assert (look.media.heard, look.media.sound, look.seen.sound, speech.closed) == (True, False, None, True)


async def test_the_transcript_of_an_event_wins_and_none_is_made(tmp_path: Path) -> None:
    speech = Speech("made here")
    look = await looked(song(tmp_path / "a.mp4"), speech, transcript="brought along")
    assert (look.texts, look.media.heard, speech.asked) == ({}, False, [])


@pytest.mark.parametrize(
    ("says", "seconds", "outcome", "reason"),
    [
        (ValueError("no model"), 60.0, "failed", "heard: ValueError: no model"),
        ("never", 0.05, "late", "heard: no text within 0.05 s"),
        ("\ud800", 60.0, "failed", "heard: UnicodeEncodeError"),
        (7, 60.0, "failed", "heard: TypeError"),
    ],
)
async def test_what_fails_costs_its_own_text_and_never_the_video(
    reader: OnScreenText, tmp_path: Path, says: object, seconds: float, outcome: str, reason: str
) -> None:
    path = video(tmp_path / "a.mp4", [(caption("grandma"), 1)], size=(640, 360), tone_hz=300)
    before = outcomes("heard")[outcome]
    others = [reader] if seconds > 1 else []
    look = await looked(path, Speech(says), *others, seconds=seconds)
    assert look.texts == ({"on_screen": "grandma"} if others else {})
    assert (look.media.status, look.media.heard) == ("used", False)
    assert (look.media.reason or "").startswith(reason)
    assert outcomes("heard")[outcome] == before + 1


async def test_no_more_of_a_text_is_kept_than_is_shown_to_the_llm(tmp_path: Path) -> None:
    look = await looked(song(tmp_path / "a.mp4"), Speech("so " * 10_000))
    assert len(look.texts["heard"]) == 4_000
