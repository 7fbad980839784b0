"""Decoding of files that strangers made, in a bounded pool of processes that can be killed.

A process is started afresh (never forked: LanceDB, ONNX Runtime and threads don't survive that), holds no secret, and
speaks JSON lines and raw bytes: nothing that it says is unpickled, and all of it is checked.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from monitoring import metrics
from schemas.errors import ConfigurationError, MediaProblem

Sampling = Literal["uniform", "scene"]
SOUND_HZ = 16_000
_CHILD = Path(__file__).with_name("decode_child.py")
_SERVED = 500
"""A process is replaced after so many files: what FFmpeg may have leaked goes with it."""
_START_S = 60.0
_BYTES_PER_LINE = 2**16
_ENVIRONMENT = {"LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class DecodeLimits:
    """What one file may take: address space of a process in MB, seconds of wall time, pixels a frame, its length."""

    memory_mb: int = 1_024
    seconds: float = 20.0
    max_pixels: int = 36_000_000
    max_seconds: float = 3_600.0


@dataclass(frozen=True)
class Plan:
    """What to take from a video: so many square frames of `size` pixels, and the first seconds of its sound.

    A frame is scaled so that its short side has `resize` pixels, and cut from the middle. uniform: at even distances;
    scene: of four times as many, those that differ most. `whole`: pixels of the long side at most, of frames to read;
    0: none are wanted. `sound_s` is what the student hears, `speech_s` what is written down.
    """

    frames: int = 8
    size: int = 224
    resize: int = 256
    sampling: Sampling = "uniform"
    sound_s: float = 0.0
    whole: int = 0
    speech_s: float = 0.0

    @property
    def hear_s(self) -> float:
        """Seconds of sound to decode."""
        return max(self.sound_s, self.speech_s)


@dataclass(frozen=True)
class Decoded:
    """Frames uint8 [n, size, size, 3], RGB, and their times; sound int16 [samples] at `SOUND_HZ`.

    `seconds` is how long the file says it lasts; None: it does not. `pictures`: it has any. `whole`: the same frames
    uncut and in grey, uint8 [height, width] each; none where the plan wants none.
    """

    frames: NDArray[np.uint8]
    times: tuple[float, ...]
    sound: NDArray[np.int16]
    seconds: float | None
    pictures: bool
    whole: tuple[NDArray[np.uint8], ...] = ()


class _Head(Struct, frozen=True):
    status: Literal["used", "unreadable", "too_large", "refused"]
    reason: str = ""
    times: tuple[float, ...] = ()
    turns: tuple[int, ...] = ()
    whole: tuple[tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)]], ...] = ()
    sound_bytes: int = 0
    seconds: float | None = None
    pictures: bool = True


_decode_head = msgspec.json.Decoder(_Head).decode


@dataclass
class _Child:
    process: Process
    served: int = 0

    async def ask(self, path: Path, plan: Plan, limits: DecodeLimits) -> Decoded:
        """Return what the file gives; raise MediaProblem where it gives nothing."""
        into, out = self.process.stdin, self.process.stdout
        assert into is not None and out is not None, "started with pipes"
        job = {
            "path": str(path), "frames": plan.frames, "size": plan.size, "resize": plan.resize,
            "sampling": plan.sampling, "whole": plan.whole, "sound_s": plan.hear_s, "sound_hz": SOUND_HZ,
            "max_pixels": limits.max_pixels, "max_seconds": limits.max_seconds,
        }  # fmt: skip
        into.write(msgspec.json.encode(job) + b"\n")
        await into.drain()
        line = await out.readline()
        if not line.endswith(b"\n"):
            raise asyncio.IncompleteReadError(line, None)
        head = _decode_head(line)
        most = round(plan.hear_s * SOUND_HZ) * 2
        if (
            not (len(head.times) == len(head.turns) <= plan.frames and 0 <= head.sound_bytes <= most)
            or (head.status == "used" and len(head.whole) != (len(head.times) if plan.whole else 0))
            or any(max(shape) > plan.whole for shape in head.whole)
        ):
            raise ValueError("a decoder announced more than it was asked for")
        if head.status != "used":
            raise MediaProblem(head.status, head.reason[:300])
        shape = (len(head.times), plan.size, plan.size, 3)
        pixels = await out.readexactly(int(np.prod(shape)))
        grey = [np.frombuffer(await out.readexactly(h * w), np.uint8).reshape(h, w) for h, w in head.whole]
        sound = await out.readexactly(head.sound_bytes)
        frames = np.frombuffer(pixels, np.uint8).reshape(shape)
        if any(head.turns):
            frames = np.stack([np.rot90(one, -turns) for one, turns in zip(frames, head.turns, strict=True)])
            grey = [np.rot90(one, -turns) for one, turns in zip(grey, head.turns, strict=bool(grey))]
        return Decoded(frames, head.times, np.frombuffer(sound, "<i2"), head.seconds, head.pictures, tuple(grey))

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()


class DecodePool:
    """At most `processes` files are decoded at once; the others wait for their turn, without a limit of time.

    A process that takes too long, too much memory or crashes is killed and replaced, and only its file fails.
    """

    def __init__(self, processes: int = 2, limits: DecodeLimits | None = None) -> None:
        self.limits = limits or DecodeLimits()
        self._places = asyncio.Semaphore(processes)
        self._idle: list[_Child] = []

    @property
    def pids(self) -> list[int]:
        """The processes that wait for a file."""
        return [child.process.pid for child in self._idle]

    async def decode(self, path: Path, plan: Plan) -> Decoded:
        """Decode the file at `path`, which is real: no link in it.

        Raises:
            MediaProblem: it gives nothing; the reason is for people.

        """
        async with self._places:
            child = self._idle.pop() if self._idle else await self._start()
            keep = False
            try:
                async with asyncio.timeout(self.limits.seconds):
                    decoded = await child.ask(path, plan, self.limits)
                keep = True
                return decoded
            except MediaProblem:
                keep = True
                raise
            except TimeoutError:
                metrics.MEDIA_DECODERS_ENDED.labels("time").inc()
                raise MediaProblem("unreadable", f"not decoded within {self.limits.seconds:g} s") from None
            except (asyncio.IncompleteReadError, OSError, ValueError, msgspec.MsgspecError) as error:
                metrics.MEDIA_DECODERS_ENDED.labels("crash").inc()
                raise MediaProblem("unreadable", f"the decoder broke on it{await _signal(child)}") from error
            finally:
                child.served += 1
                if keep and child.served < _SERVED:
                    self._idle.append(child)
                else:
                    child.kill()
                    await child.process.wait()

    async def close(self) -> None:
        """End all processes; nothing may be under way."""
        for child in self._idle:
            child.kill()
            await child.process.wait()
        self._idle.clear()

    async def _start(self) -> _Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", str(_CHILD), str(self.limits.memory_mb), str(round(self.limits.seconds) + 5),
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=_ENVIRONMENT, limit=_BYTES_PER_LINE,
        )  # fmt: skip
        assert process.stdout is not None, "started with pipes"
        try:
            async with asyncio.timeout(_START_S):
                ready = await process.stdout.readline()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if ready != b"ready\n":
            await process.wait()
            raise ConfigurationError(
                f"no decoder starts (exit {process.returncode}); install vibestream[media], and give it more than"
                f" {self.limits.memory_mb} MB",
            )
        return _Child(process)


async def _signal(child: _Child) -> str:
    child.kill()
    code = await child.process.wait()
    return f" (signal {-code})" if code < 0 else ""
