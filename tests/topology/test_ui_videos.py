"""What the page says of one upload's video."""

import re
from html import unescape
from typing import get_args
from urllib.parse import urlencode

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request

from schemas.annotation import Annotation, Media, MediaStatus
from schemas.errors import MediaFault
from schemas.wire import encode
from streams.record import Record
from tests.fakes.videos import NOW_MS, annotation
from topology.settings import Settings
from topology.topics import ANNOTATIONS
from topology.ui.pages import environment
from topology.ui.recent import Recent
from topology.ui.videos import VideoPages


async def page(*history: Annotation) -> str:
    """The words of a video's page, without its markup."""
    recent = Recent()
    recent.add(ANNOTATIONS, [Record("t", 0, 0, NOW_MS, None, encode(one)) for one in history])
    pages = VideoPages(Settings(), environment(), recent)
    response = await pages.one(make_mocked_request("GET", f"/video?{urlencode({'id': history[0].video_id})}"))
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.text or "")).split())


def with_media(media: Media | None, status: str = "final") -> Annotation:
    return msgspec.structs.replace(annotation("v", {"calm": True}), media=media, status=status)


async def test_a_video_that_was_used_shows_what_student_and_llm_got_of_it_and_what_came_before():
    used = Media("used", frames=4, sound=True, on_screen=True, heard=True, llm="video")
    shown = await page(with_media(Media("pending"), "provisional"), with_media(used))
    assert "media used: scores rest on it, too" in shown
    assert "the student got the text, 4 frames, the sound, text read in the frames, what is said in it" in shown
    assert "the LLM got the video" in shown
    assert "provisional (media pending)" in shown


async def test_of_a_video_that_was_read_only_what_was_found_is_named():
    shown = await page(with_media(Media("used", on_screen=True, reason="speech: late")))
    assert "the student got the text, text read in the frames Scores" in shown
    assert "why speech: late" in shown
    assert "the LLM got" not in shown


_STATUSES = {"pending", "off", "unused", "used", *get_args(MediaFault)}


@pytest.mark.parametrize("status", sorted(_STATUSES))
async def test_every_status_is_explained_beside_its_reason(status: MediaStatus):
    shown = await page(with_media(Media(status, reason="<b>a.mp4</b> & more")))
    assert re.search(rf"media {status}: \w+", shown)
    assert "why <b>a.mp4</b> & more" in shown


async def test_an_upload_without_a_video_has_no_word_of_one():
    assert "What became of the video" not in await page(with_media(None))
