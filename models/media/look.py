"""Looking at videos: fetched, decoded, encoded, many at once and none of them in the way of another."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.media.decode import Decoded, DecodePool, Plan
from models.media.fetch import MediaFetcher
from models.media.frame_encoder import FrameEncoder
from models.media.sound import sound_vector
from models.seen import NOTHING, Seen
from monitoring import metrics
from schemas.annotation import Media
from schemas.errors import MediaProblem

_CUT_SHORT = 0.75
"""With a smaller share of the frames that were asked for, the file is called cut short."""


class Extractor(Protocol):
    """Makes text of a decoded video: what is written in its frames, or what is said in it."""

    @property
    def kind(self) -> str:
        """on_screen or heard."""
        ...

    async def extract(self, decoded: Decoded) -> str:
        """Return the text; empty where there is none."""
        ...

    async def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass(frozen=True)
class Look:
    """What came of one video: `media` for the annotation, `seen` for the student, texts for its text."""

    media: Media
    seen: Seen = NOTHING
    times: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()


class Looker:
    """Looks at the videos that URIs name; takes over what it is made of. Without an encoder no frames are seen."""

    def __init__(
        self,
        fetcher: MediaFetcher,
        pool: DecodePool,
        plan: Plan,
        encoder: FrameEncoder | None = None,
        extractors: Sequence[Extractor] = (),
    ) -> None:
        self._fetcher = fetcher
        self._pool = pool
        self._plan = plan
        self.encoder = encoder
        self._extractors = tuple(extractors)

    @property
    def reads_text(self) -> bool:
        """Whether it makes text of videos, so that it is of use to a student that only reads."""
        return bool(self._extractors)

    async def look(self, uris: Sequence[str]) -> Sequence[Look]:
        """Return one Look per URI, in order; whatever is wrong with a video is in its Look."""
        opened = await asyncio.gather(*(self._open(uri) for uri in uris))
        decoded = [one for one in opened if isinstance(one, _Opened)]
        vectors = await self._encode([one.decoded.frames for one in decoded])
        sounds = await asyncio.to_thread(lambda: [sound_vector(one.decoded.sound) for one in decoded])
        made = iter(zip(decoded, vectors, sounds, strict=True))
        looks = [one if isinstance(one, Look) else self._seen(*next(made)) for one in opened]
        for look in looks:
            metrics.MEDIA_VIDEOS.labels(look.media.status).inc()
        return looks

    async def close(self) -> None:
        """Free everything; no look may be under way."""
        for extractor in self._extractors:
            await extractor.close()
        await self._pool.close()
        await self._fetcher.close()
        if self.encoder is not None:
            await asyncio.to_thread(self.encoder.close)

    async def _open(self, uri: str) -> "_Opened | Look":
        try:
            async with self._fetcher.fetch(uri) as path:
                started = time.perf_counter()
                try:
                    decoded = await self._pool.decode(path, self._plan)
                finally:
                    metrics.MEDIA_SECONDS.labels("decode").observe(time.perf_counter() - started)
        except MediaProblem as problem:
            return Look(Media(problem.status, str(problem)[:500]))
        texts = [(one.kind, await one.extract(decoded)) for one in self._extractors]
        return _Opened(decoded, tuple((kind, text) for kind, text in texts if text))

    async def _encode(self, videos: Sequence[NDArray[np.uint8]]) -> Sequence[NDArray[np.float16] | None]:
        if self.encoder is None or not videos:
            return [None] * len(videos)
        started = time.perf_counter()
        vectors = await self.encoder.encode(videos)
        metrics.MEDIA_SECONDS.labels("encode").observe(time.perf_counter() - started)
        return [one if len(one) else None for one in vectors]

    def _seen(self, opened: "_Opened", frames: NDArray[np.float16] | None, sound: NDArray[np.float32] | None) -> Look:
        decoded, texts = opened.decoded, dict(opened.texts)
        reason = None
        if not decoded.pictures:
            reason = "it has no pictures, only sound"
        elif len(decoded.times) < _CUT_SHORT * self._plan.frames:
            reason = f"it is very short, or was cut off: {len(decoded.times)} of {self._plan.frames} frames"
        media = Media(
            "used",
            reason,
            frames=0 if frames is None else len(frames),
            sound=sound is not None,
            on_screen="on_screen" in texts,
            heard="heard" in texts,
        )
        return Look(media, Seen(frames, sound), decoded.times, tuple(texts.values()))


@dataclass(frozen=True)
class _Opened:
    decoded: Decoded
    texts: tuple[tuple[str, str], ...]
