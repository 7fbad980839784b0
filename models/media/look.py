"""Looking at videos: fetched, decoded, encoded, many at once and none of them in the way of another."""

import asyncio
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.media.decode import SOUND_HZ, Decoded, DecodePool, Plan
from models.media.extract import Extracted, Extractors, Kind
from models.media.fetch import MediaFetcher
from models.media.frame_encoder import FrameEncoder
from models.media.sound import sound_vector
from models.seen import NOTHING, Seen
from monitoring import metrics
from schemas.annotation import Media
from schemas.errors import MediaProblem
from schemas.events import VideoUpload

_CUT_SHORT = 0.75
"""With a smaller share of the frames that were asked for, the file is called cut short."""
_TRANSCRIPT_CHARACTERS = 50_000
"""`VideoUpload` takes no more."""


@dataclass(frozen=True)
class Look:
    """What came of one video: `media` for the annotation, `seen` for the student, `texts` for all who read."""

    media: Media
    seen: Seen = NOTHING
    times: tuple[float, ...] = ()
    texts: Mapping[Kind, str] = field(default_factory=dict[Kind, str])

    def beside(self, upload: VideoUpload) -> VideoUpload:
        """Return `upload` with what was read and heard in its video as part of its transcript, first in it."""
        if not self.texts:
            return upload
        parts = (self.texts.get("on_screen"), self.texts.get("heard"), upload.transcript)
        transcript = "\n".join(part for part in parts if part)[:_TRANSCRIPT_CHARACTERS]
        return msgspec.structs.replace(upload, transcript=transcript)


class Looker:
    """Looks at the videos of uploads; takes over what it is made of. Without an encoder no frames are seen."""

    def __init__(
        self,
        fetcher: MediaFetcher,
        pool: DecodePool,
        plan: Plan,
        encoder: FrameEncoder | None = None,
        extractors: Extractors | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._pool = pool
        self._plan = plan
        self.encoder = encoder
        self._extractors = extractors or Extractors()

    async def look(self, uploads: Sequence[VideoUpload]) -> Sequence[Look]:
        """Return one Look per upload, in order; whatever is wrong with a video is in its Look.

        No transcript is made for an upload that brings its own.
        """
        opened = await asyncio.gather(
            *(self._open(one.media_uri or "", ("heard",) if one.transcript else ()) for one in uploads)
        )
        decoded = [one for one in opened if isinstance(one, _Opened)]
        vectors = await self._encode([one.decoded.frames for one in decoded])
        heard = round(self._plan.sound_s * SOUND_HZ)
        sounds = await asyncio.to_thread(lambda: [sound_vector(one.decoded.sound[:heard]) for one in decoded])
        made = iter(zip(decoded, vectors, sounds, strict=True))
        looks = [one if isinstance(one, Look) else self._seen(*next(made)) for one in opened]
        for look in looks:
            metrics.MEDIA_VIDEOS.labels(look.media.status).inc()
        return looks

    async def close(self) -> None:
        """Free everything; no look may be under way."""
        await self._extractors.close()
        await self._pool.close()
        await self._fetcher.close()
        if self.encoder is not None:
            await asyncio.to_thread(self.encoder.close)

    async def _open(self, uri: str, known: Container[Kind]) -> "_Opened | Look":
        try:
            async with self._fetcher.fetch(uri) as path:
                started = time.perf_counter()
                try:
                    decoded = await self._pool.decode(path, self._plan)
                finally:
                    metrics.MEDIA_SECONDS.labels("decode").observe(time.perf_counter() - started)
        except MediaProblem as problem:
            return Look(Media(problem.status, str(problem)[:500]))
        extracted = await self._extractors.extract(decoded, known)
        return _Opened(replace(decoded, whole=()), extracted)

    async def _encode(self, videos: Sequence[NDArray[np.uint8]]) -> Sequence[NDArray[np.float16] | None]:
        if self.encoder is None or not videos:
            return [None] * len(videos)
        started = time.perf_counter()
        vectors = await self.encoder.encode(videos)
        metrics.MEDIA_SECONDS.labels("encode").observe(time.perf_counter() - started)
        return [one if len(one) else None for one in vectors]

    def _seen(self, opened: "_Opened", frames: NDArray[np.float16] | None, sound: NDArray[np.float32] | None) -> Look:
        decoded, texts = opened.decoded, opened.extracted.texts
        reasons: list[str] = []
        if not decoded.pictures:
            reasons.append("it has no pictures, only sound")
        elif len(decoded.times) < _CUT_SHORT * self._plan.frames:
            reasons.append(f"it is very short, or was cut off: {len(decoded.times)} of {self._plan.frames} frames")
        media = Media(
            "used",
            "; ".join([*reasons, *opened.extracted.failures])[:500] or None,
            frames=0 if frames is None else len(frames),
            sound=sound is not None,
            on_screen="on_screen" in texts,
            heard="heard" in texts,
        )
        return Look(media, Seen(frames, sound), decoded.times, texts)


@dataclass(frozen=True)
class _Opened:
    decoded: Decoded
    extracted: Extracted
