"""A process that decodes hostile files for `models.media.decode`, and can do nothing else worth having.

It is started by path in isolated mode, imports nothing of this project, has an empty environment (so no keys), and sets
its own limits before it touches a file. Jobs come as JSON lines on its standard input; each is answered by a JSON line
and the bytes that the line announces: frames, RGB, row by row, then the same uncut and grey, then sound, 16-bit
little-endian mono. FFmpeg may open the one file and nothing that the file names: no playlists, no other protocols, no
references.
"""

import errno
import json
import resource
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,apng,h264,hevc"
_GAP_S = 1.0
"""A frame that is further ahead is sought, one that is nearer is decoded up to."""
_MOST_ERRORS = 100
_CANDIDATES = 4
_LEAST_BYTES = 64 * 2**20
_THUMB = 8
_LONGEST_SIDES = 4
"""Very long frames are squeezed to so many times their short side."""

Job = dict[str, Any]
Grey = tuple[int, int, bytes]
"""Height, width, and so many bytes."""
Shot = tuple[float, int, bytes, bytes, Grey | None]
"""Time in seconds, clockwise quarter turns that are left to do, RGB, thumbnail, all of a frame that is to be read."""


class Unusable(Exception):
    """The file gives nothing; `status` and reason go into the annotation."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _no_other_file(url: str, flags: int, options: dict[str, Any]) -> Any:
    raise PermissionError(f"{url[:100]} is not the file")


@contextmanager
def _opened(path: str) -> Generator[Any]:
    """Open the file, which must be the very one that was checked: no link may have taken its place."""
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
    with open(path, "rb") as file:
        if Path(f"/proc/self/fd/{file.fileno()}").readlink() != Path(path):
            raise Unusable("refused", "the file was replaced by a link while it was looked at")
        with av.open(
            file, "r", container_options=options, io_open=_no_other_file, metadata_errors="ignore"
        ) as container:
            yield container


def _reason(error: Exception) -> Unusable:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in (errno.ENOMEM, errno.EAGAIN):
        return Unusable("too_large", "decoding it takes more memory than a file may have")
    says = [*str(error).splitlines(), type(error).__name__][0]
    return Unusable("unreadable", f"no video that can be read: {says[:200]}")


def _seconds(container: Any, stream: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Yield frames and pass over damaged ones, which are few or the file is worth nothing."""
    errors = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
            decoded = packet.decode()
        except StopIteration:
            return
        except (av.error.EOFError, av.error.InvalidDataError):
            errors += 1
            if errors > _MOST_ERRORS:
                return
            continue
        yield from decoded


class Shooter:
    """Turns frames into squares of `size` pixels: scaled to `resize` on the short side, then cut from the middle."""

    def __init__(self, job: Job) -> None:
        self._resize, self._size, self._whole = job["resize"], job["size"], job["whole"]
        self._most = job["max_pixels"]

    def shoot(self, frame: Any, time: float) -> Shot:
        """Return the square, its thumbnail, and the whole frame where it is wanted."""
        if frame.width * frame.height > self._most:
            raise Unusable("too_large", f"frames of {frame.width} x {frame.height} pixels, at most {self._most}")
        short = min(frame.width, frame.height)
        longest = _LONGEST_SIDES * self._resize
        width, height = (
            max(self._size, min(longest, round(side * self._resize / short))) for side in (frame.width, frame.height)
        )
        way = "AREA" if short > self._resize else "BICUBIC"
        small = frame.reformat(width=width, height=height, format="rgb24", interpolation=way)
        thumb = small.reformat(width=_THUMB, height=_THUMB, format="rgb24", interpolation="AREA")
        turns = round(-(getattr(frame, "rotation", 0) or 0) / 90) % 4
        left, top = (width - self._size) // 2, (height - self._size) // 2
        square, whole = _cut(small, left, top, self._size, self._size), self._grey(frame) if self._whole else None
        return time, turns, square, _cut(thumb, 0, 0, _THUMB, _THUMB), whole

    def _grey(self, frame: Any) -> Grey:
        shrink = min(1.0, self._whole / max(frame.width, frame.height))
        width, height = (max(1, round(side * shrink)) for side in (frame.width, frame.height))
        grey = frame.reformat(width=width, height=height, format="gray", interpolation="AREA")
        return height, width, _cut(grey, 0, 0, width, height, 1)


def _cut(frame: Any, left: int, top: int, width: int, height: int, depth: int = 3) -> bytes:
    plane = frame.planes[0]
    view, stride = memoryview(plane), plane.line_size
    rows = (view[y * stride + left * depth :][: width * depth] for y in range(top, top + height))
    return b"".join(rows)


def _at_times(container: Any, stream: Any, times: Sequence[float], shooter: Shooter) -> list[Shot]:
    """Return the frames that are shown at `times`, ascending; fewer where the file ends before its time."""
    start = float((stream.start_time or 0) * stream.time_base)
    found: list[Shot] = []
    frames, position = _frames(container, stream), -_GAP_S
    for time in times:
        if time - max(position, 0) > _GAP_S:
            try:
                container.seek(round((time + start) / stream.time_base), stream=stream, backward=True)
                frames = _frames(container, stream)
            except av.error.FFmpegError:
                pass  # then it is decoded up to there
        last: Any = None
        for frame in frames:
            last = frame
            position = time if frame.time is None else frame.time - start
            if position + 0.5 / float(stream.average_rate or 25) >= time:
                break
        if last is None:
            break
        found.append(shooter.shoot(last, max(position, 0.0)))
    return found


def _evenly(container: Any, stream: Any, count: int, shooter: Shooter, max_seconds: float) -> list[Shot]:
    """Return `count` frames or up to twice as many, of a file that does not say how long it is."""
    kept: list[Shot] = []
    stride = 1
    for number, frame in enumerate(_frames(container, stream)):
        if (frame.time or 0) > max_seconds:
            raise Unusable("too_large", f"it goes on for more than {max_seconds:g} s")
        if number % stride == 0:
            kept.append(shooter.shoot(frame, frame.time or 0.0))
            if len(kept) == 2 * count:
                kept, stride = kept[::2], stride * 2
    return kept


def _most_different(shots: Sequence[Shot], count: int) -> list[Shot]:
    """Return the frames that differ most from each other, in order: farthest-point selection on their thumbnails."""
    if len(shots) <= count:
        return list(shots)
    chosen = [len(shots) // 2]
    nearest = [1 << 30] * len(shots)
    while len(chosen) < count:
        newest = shots[chosen[-1]][3]
        for i, shot in enumerate(shots):
            nearest[i] = min(nearest[i], sum(abs(a - b) for a, b in zip(shot[3], newest, strict=True)))
        chosen.append(max(range(len(shots)), key=lambda i: (nearest[i], -i)))
    return [shots[i] for i in sorted(set(chosen))]


def _spread(shots: Sequence[Shot], count: int) -> list[Shot]:
    picked = {round((i + 0.5) * len(shots) / count - 0.5) for i in range(count)}
    return [shots[i] for i in sorted(i for i in picked if 0 <= i < len(shots))]


def _pictures(job: Job) -> tuple[list[Shot], float | None, bool]:
    """Return the frames, the length in seconds as the file states it, and whether it has pictures at all."""
    with _opened(job["path"]) as container:
        streams = [s for s in container.streams.video if not int(s.disposition) & 0x400]  # no cover of a song
        if not streams:
            return [], None, False
        stream = streams[0]
        context = stream.codec_context
        if context is None:
            raise Unusable("unreadable", "its pictures are in a format that this FFmpeg can't decode")
        context.thread_count = 1
        if context.width * context.height > job["max_pixels"]:
            raise Unusable("too_large", f"{context.width} x {context.height} pixels, at most {job['max_pixels']}")
        seconds = _seconds(container, stream)
        if seconds is not None and seconds > job["max_seconds"]:
            raise Unusable("too_large", f"it lasts {seconds:.0f} s, at most {job['max_seconds']:g}")
        count, shooter = job["frames"], Shooter(job)
        if not count:
            return [], seconds, True
        scenes = job["sampling"] == "scene"
        wanted = count * _CANDIDATES if scenes else count
        if seconds:
            times = [(i + 0.5) * seconds / wanted for i in range(wanted)]
            shots = _at_times(container, stream, times, shooter)
        else:
            shots = _evenly(container, stream, wanted, shooter, job["max_seconds"])
        shots = _most_different(shots, count) if scenes else _spread(shots, count) if len(shots) > count else shots
        return shots, seconds, True


def _sound(job: Job) -> bytes:
    """Return up to `sound_s` seconds of sound, mono, `sound_hz`; nothing where there is none that can be decoded."""
    most = int(job["sound_s"] * job["sound_hz"]) * 2
    heard = bytearray()
    with _opened(job["path"]) as container:
        if not container.streams.audio or container.streams.audio[0].codec_context is None:
            return b""
        resampler = av.AudioResampler(format="s16", layout="mono", rate=job["sound_hz"])
        for frame in _frames(container, container.streams.audio[0]):
            for one in resampler.resample(frame):
                heard += memoryview(one.planes[0])[: one.samples * 2]
            if len(heard) >= most:
                break
    return bytes(heard[:most])


def answer(job: Job) -> tuple[dict[str, Any], list[bytes]]:
    """Return the line and the bytes for one job."""
    try:
        if not Path(job["path"]).stat().st_size:
            raise Unusable("unreadable", "the file is empty")
        shots, seconds, pictures = _pictures(job)
        sound = _sound(job) if job["sound_s"] else b""
        if not shots and job["frames"] and not sound:
            raise Unusable(
                "unreadable",
                "not one of its pictures could be decoded"
                if pictures
                else "it has no pictures: sound only, or neither",
            )
    except Unusable as error:
        return {"status": error.status, "reason": str(error)}, []
    except (OSError, ValueError, MemoryError, ArithmeticError, LookupError, RuntimeError) as error:
        unusable = _reason(error)
        return {"status": unusable.status, "reason": str(unusable)}, []
    return (
        {
            "status": "used",
            "times": [round(time, 3) for time, *_ in shots],
            "turns": [turns for _, turns, *_ in shots],
            "whole": [(height, width) for *_, grey in shots if grey for height, width, _ in [grey]],
            "sound_bytes": len(sound),
            "seconds": seconds,
            "pictures": pictures,
        },
        [*(rgb for _, _, rgb, *_ in shots), *(grey[2] for *_, grey in shots if grey), sound],
    )


def main() -> None:
    """Serve jobs until standard input ends; the arguments are the memory in MB and the seconds for one job."""
    memory, seconds = int(sys.argv[1]) * 2**20, int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    for limit, value in ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 32)):
        resource.setrlimit(limit, (value, value))
    av.logging.set_level(None)
    bytearray(_LEAST_BYTES)  # with less than that every file would be called too large
    out = sys.stdout.buffer
    out.write(b"ready\n")
    out.flush()
    for line in sys.stdin.buffer:
        signal.alarm(seconds)  # who would end it may be dead
        head, parts = answer(json.loads(line))
        signal.alarm(0)
        out.write(json.dumps(head).encode() + b"\n")
        for part in parts:
            out.write(part)
        out.flush()


if __name__ == "__main__":
    main()
