"""Video files that tests make: good ones, and one of every kind that is broken."""

import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Picture = np.ndarray
"""RGB, uint8 [height, width, 3]."""
RED, GREEN, BLUE, GREY = (220, 30, 30), (30, 200, 40), (30, 40, 220), (120, 120, 120)


def video(
    path: Path,
    scenes: list[tuple[Colour | Picture, float]],
    *,
    size: tuple[int, int] = (320, 180),
    fps: int = 10,
    codec: str = "libx264",
    tone_hz: float | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Colours or pictures of that size for so many seconds, with a tone if one is named."""
    with av.open(str(path), "w", container_options=container or {}) as out:
        pictures = out.add_stream(codec, rate=fps)
        pictures.width, pictures.height, pictures.pix_fmt = *size, "yuv420p"
        pictures.options = options or {}
        sound = out.add_stream("aac", rate=16_000) if tone_hz else None
        for shown, seconds in scenes:
            picture = np.full((size[1], size[0], 3), shown, np.uint8)
            for _ in range(round(seconds * fps)):
                out.mux(pictures.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(pictures.encode())
        if sound is not None:
            _tone(out, sound, tone_hz or 0, sum(seconds for _, seconds in scenes))
    return path


def caption(*lines: str, size: tuple[int, int] = (640, 360), at: tuple[int, int] = (20, 20)) -> Picture:
    """A picture with text in it, from its upper left corner on."""
    picture = Image.new("RGB", size, BLUE)
    font = ImageFont.load_default(30)
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((at[0], at[1] + 50 * number), line, fill=(255, 255, 255), font=font)
    return np.asarray(picture)


def song(path: Path, seconds: float = 2.0, tone_hz: float = 440.0) -> Path:
    """Sound without pictures."""
    with av.open(str(path), "w") as out:
        _tone(out, out.add_stream("aac", rate=16_000), tone_hz, seconds)
    return path


def _tone(out: av.container.OutputContainer, stream: av.AudioStream, hertz: float, seconds: float) -> None:
    samples = np.arange(round(seconds * 16_000))
    wave = (8_000 * np.sin(2 * np.pi * hertz * samples / 16_000)).astype(np.int16)
    for at in range(0, len(wave), 1_024):
        frame = av.AudioFrame.from_ndarray(wave[None, at : at + 1_024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, at, Fraction(1, 16_000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def _png(width: int, height: int) -> bytes:
    """One bit a pixel: huge, and small as a file."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes((width // 8 + 1) * height), 1)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def stills(path: Path, times: list[float], *, size: tuple[int, int], claims: tuple[int, int]) -> Path:
    """Pictures of `size` at `times`, in a file that claims another size."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = *claims, "rgb24"
        stream.time_base = Fraction(1, 1000)
        for time in times:
            packet = av.Packet(_png(*size))
            packet.pts = packet.dts = round(time * 1000)
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 1000), stream, True
            out.mux(packet)
    return path


def _good(path: Path) -> Path:
    return video(path, [(RED, 1.0), (BLUE, 1.0)])


def _bytes(content: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def _truncated(path: Path) -> Path:
    whole = _good(path.with_suffix(".whole.mp4"))
    path.write_bytes(whole.read_bytes()[:700])  # the index is at the end
    return path


def _playlist(path: Path) -> Path:
    secret = path.with_suffix(".secret.ts")
    video(secret, [(RED, 1.0)])
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n")
    return path


BROKEN: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "empty.mp4": (_bytes(b""), "unreadable", "the file is empty"),
    "text.mp4": (_bytes(b"%PDF-1.7 I am no video at all. " * 500), "unreadable", "no video that can be read"),
    "noise.mp4": (_bytes(np.random.default_rng(1).bytes(50_000)), "unreadable", "no video that can be read"),
    "index-cut-off.mp4": (_truncated, "unreadable", "no video that can be read"),
    "song.mp4": (lambda path: song(path), "unreadable", "it has no pictures"),
    "playlist.mp4": (_playlist, "unreadable", "no video that can be read"),
    "huge.mov": (
        lambda path: stills(path, [0, 1], size=(12_000, 12_000), claims=(12_000, 12_000)),
        "too_large",
        "12000 x 12000 pixels",
    ),
    "huge-and-lying.mov": (
        lambda path: stills(path, [0, 1], size=(12_000, 12_000), claims=(64, 64)),
        "too_large",
        "12000 x 12000 pixels",
    ),
    "endless.mov": (
        lambda path: stills(path, [0, 100_000], size=(64, 64), claims=(64, 64)),
        "too_large",
        "it lasts 100000 s",
    ),
}
"""By file name: how to make it, the status, and what is in the reason."""
