"""Decoding in processes that can be killed, with files of every broken kind."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from models.media.decode import SOUND_HZ, DecodeLimits, DecodePool, Plan
from schemas.errors import ConfigurationError, MediaProblem
from tests.fakes.media import BLUE, BROKEN, GREEN, GREY, RED, song, video

SMALL = Plan(frames=4, size=32, resize=40)


@pytest.fixture
async def pool() -> AsyncIterator[DecodePool]:
    made = DecodePool(1, DecodeLimits(seconds=60))
    yield made
    await made.close()


def colours(frames: np.ndarray) -> list[tuple[int, ...]]:
    """The colour in the middle of each frame, coarsely: codecs blur it."""
    return [tuple(int(v) for v in np.round(frame[16, 16] / 64)) for frame in frames]


def coarse(*wanted: tuple[int, int, int]) -> list[tuple[int, ...]]:
    return [tuple(int(v) for v in np.round(np.array(one) / 64)) for one in wanted]


async def test_uniform_frames_are_taken_at_even_distances_and_in_order(pool: DecodePool, tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", [(RED, 2), (GREEN, 2), (BLUE, 4)])
    decoded = await pool.decode(path, SMALL)
    assert decoded.frames.shape == (4, 32, 32, 3)
    assert decoded.times == pytest.approx((1, 3, 5, 7), abs=0.11)
    assert colours(decoded.frames) == coarse(RED, GREEN, BLUE, BLUE)
    assert decoded.seconds == pytest.approx(8, abs=0.2)


async def test_scene_aware_frames_find_the_short_scene_that_even_distances_miss(
    pool: DecodePool, tmp_path: Path
) -> None:
    path = video(tmp_path / "a.mp4", [(GREY, 8.2), (GREEN, 1.6), (GREY, 6.2)])
    even = await pool.decode(path, Plan(frames=2, size=32, resize=40))
    scenes = await pool.decode(path, Plan(frames=2, size=32, resize=40, sampling="scene"))
    assert colours(even.frames) == coarse(GREY, GREY)
    assert sorted(colours(scenes.frames)) == sorted(coarse(GREEN, GREY))
    assert list(scenes.times) == sorted(scenes.times)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.webm", "libvpx"),
        ("a.avi", "mpeg4"),
        ("a.ts", "mpeg2video"),
        ("wrong.txt.mp4", "mpeg4"),
    ],
)
async def test_the_content_decides_and_not_the_name(pool: DecodePool, tmp_path: Path, name: str, codec: str) -> None:
    path = video(tmp_path / name, [(RED, 1), (BLUE, 1)], codec=codec)
    renamed = path.rename(tmp_path / "what-it-is-not.mkv")
    decoded = await pool.decode(renamed, Plan(frames=2, size=32, resize=40))
    assert colours(decoded.frames) == coarse(RED, BLUE)


async def test_sound_comes_along_as_mono_samples(pool: DecodePool, tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", [(RED, 2)], tone_hz=1_000)
    decoded = await pool.decode(path, Plan(frames=2, size=32, resize=40, sound_s=1.5))
    assert len(decoded.sound) == round(1.5 * SOUND_HZ)
    spectrum = np.abs(np.fft.rfft(decoded.sound[4_000:20_000].astype(float)))
    assert np.argmax(spectrum) * SOUND_HZ / 16_000 == pytest.approx(1_000, abs=5)
    silent = await pool.decode(video(tmp_path / "b.mp4", [(RED, 1)]), Plan(frames=2, size=32, resize=40, sound_s=1.5))
    assert len(silent.sound) == 0


async def test_sound_without_pictures_is_still_sound(pool: DecodePool, tmp_path: Path) -> None:
    decoded = await pool.decode(song(tmp_path / "a.mp4"), Plan(frames=4, size=32, resize=40, sound_s=1))
    assert (len(decoded.frames), len(decoded.sound), decoded.pictures) == (0, SOUND_HZ, False)


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_file_gives_its_reason_and_the_next_one_is_decoded(
    pool: DecodePool, tmp_path: Path, name: str
) -> None:
    make, status, says = BROKEN[name]
    path = make(tmp_path / name)
    with pytest.raises(MediaProblem) as problem:
        await pool.decode(path, SMALL)
    assert (problem.value.status, says in str(problem.value)) == (status, True), str(problem.value)
    good = await pool.decode(video(tmp_path / "good.mp4", [(RED, 1)]), SMALL)
    assert colours(good.frames) == coarse(RED) * 4


async def test_a_file_that_was_cut_short_gives_the_frames_that_are_there(pool: DecodePool, tmp_path: Path) -> None:
    whole = video(
        tmp_path / "a.mp4", [(RED, 4), (BLUE, 4)], container={"movflags": "faststart"}, options={"g": "10"},
        size=(640, 360),
    )  # fmt: skip
    content = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) * 6 // 10])
    decoded = await pool.decode(cut, SMALL)
    assert coarse(RED)[0] in colours(decoded.frames)


async def test_a_file_that_takes_too_long_loses_its_process_and_no_other_file_does(tmp_path: Path) -> None:
    slow = video(
        tmp_path / "slow.mp4", [(RED, 30)], size=(1280, 720), fps=20, options={"preset": "ultrafast", "g": "999"}
    )
    quick = video(tmp_path / "quick.mp4", [(BLUE, 1)], size=(64, 64))
    pool = DecodePool(1, DecodeLimits(seconds=0.25))
    try:
        with pytest.raises(MediaProblem, match=r"not decoded within 0.25 s"):
            await pool.decode(slow, Plan(frames=64, size=224, resize=256, sampling="scene"))
        pool.limits = DecodeLimits(seconds=20)
        assert colours((await pool.decode(quick, SMALL)).frames) == coarse(BLUE) * 4
    finally:
        await pool.close()


async def test_a_file_that_takes_too_much_memory_is_refused_and_others_go_on(tmp_path: Path) -> None:
    large = video(tmp_path / "large.mp4", [(RED, 1)], fps=3, size=(5000, 5000), options={"preset": "ultrafast"})
    pool = DecodePool(1, DecodeLimits(memory_mb=190, seconds=60))
    try:
        with pytest.raises(MediaProblem) as problem:
            await pool.decode(large, SMALL)
        assert (problem.value.status, "memory" in str(problem.value)) == ("too_large", True), str(problem.value)
        small = video(tmp_path / "small.mp4", [(BLUE, 1)], size=(64, 64))
        assert colours((await pool.decode(small, SMALL)).frames) == coarse(BLUE) * 4
    finally:
        await pool.close()


async def test_no_more_files_are_decoded_at_once_than_there_are_processes(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", [(RED, 1), (BLUE, 1)])
    pool = DecodePool(2, DecodeLimits(seconds=60))
    try:
        decoded = await asyncio.gather(*(pool.decode(path, SMALL) for _ in range(12)))
        assert all(colours(one.frames) == coarse(RED, RED, BLUE, BLUE) for one in decoded)
        assert len(pool.pids) == 2
    finally:
        await pool.close()
    assert pool.pids == []


async def test_a_link_that_takes_the_files_place_is_not_followed(pool: DecodePool, tmp_path: Path) -> None:
    real = video(tmp_path / "a.mp4", [(RED, 1)])
    link = tmp_path / "link.mp4"
    link.symlink_to(real)
    with pytest.raises(MediaProblem, match="replaced by a link"):
        await pool.decode(link, SMALL)


async def test_too_little_memory_for_any_decoder_is_the_operators_to_mend(tmp_path: Path) -> None:
    pool = DecodePool(1, DecodeLimits(memory_mb=20))
    with pytest.raises(ConfigurationError, match="no decoder starts"):
        await pool.decode(video(tmp_path / "a.mp4", [(RED, 1)]), SMALL)
