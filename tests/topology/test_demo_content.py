from collections import Counter

import msgspec
import pytest

from schemas.attributes import load_catalogue
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from topology.demo.content import DemoUpload, load_uploads

NOW_MS = 1_780_000_000_000


@pytest.fixture(scope="module")
def uploads() -> list[DemoUpload]:
    return load_uploads(NOW_MS)


def test_there_are_hundreds_of_uploads_by_about_a_hundred_creators(uploads: list[DemoUpload]) -> None:
    assert len(uploads) >= 500
    videos_by_creator = Counter(shown.upload.creator_id for shown in uploads)
    assert len(videos_by_creator) >= 100
    assert max(videos_by_creator.values()) <= 12


def test_no_two_uploads_share_an_id_or_a_title(uploads: list[DemoUpload]) -> None:
    assert len({shown.upload.video_id for shown in uploads}) == len(uploads)
    assert len({shown.upload.title.casefold() for shown in uploads}) == len(uploads)


def test_every_upload_survives_the_wire(uploads: list[DemoUpload]) -> None:
    decoder = Decoder(VideoUpload)
    assert all(decoder.decode(encode(shown.upload)) == shown.upload for shown in uploads)


def test_every_upload_has_a_title_a_language_and_the_length_of_a_short_video(uploads: list[DemoUpload]) -> None:
    for shown in uploads:
        assert shown.upload.title
        assert shown.upload.language in {"en", "es", "de", "fr"}
        assert 6_000 <= (shown.upload.duration_ms or 0) <= 180_000


def test_every_attribute_of_the_catalogue_is_covered_and_no_other(uploads: list[DemoUpload]) -> None:
    counts = Counter(mood for shown in uploads for mood in shown.moods)
    assert set(counts) == set(load_catalogue().ids)
    assert min(counts.values()) >= 12


def test_an_upload_has_at_most_three_different_moods(uploads: list[DemoUpload]) -> None:
    assert all(len(set(shown.moods)) == len(shown.moods) <= 3 for shown in uploads)


def test_uploads_come_in_order_within_the_48_hours_before_now(uploads: list[DemoUpload]) -> None:
    times = [shown.upload.uploaded_at_ms for shown in uploads]
    assert times == sorted(set(times))
    assert NOW_MS - 48 * 3_600_000 <= times[0] < times[-1] < NOW_MS


def test_moods_stay_out_of_what_is_produced(uploads: list[DemoUpload]) -> None:
    produced = msgspec.json.decode(encode(uploads[0].upload))
    assert "moods" not in produced
