"""Videos for the LLM: fetched by the operator's rules and probed before they are sent, or left to a permitted URI."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from models.annotator import Question
from models.clip import Clip, VideoTerms
from models.media.decode import DecodePool, Plan
from models.media.fetch import MediaFetcher
from models.media.rules import MediaRules
from schemas.errors import MediaProblem
from schemas.events import VideoUpload

_PROBE = Plan(frames=1, size=32, resize=32)
_KINDS = {"webm": "video/webm", "mov": "video/quicktime", "avi": "video/x-msvideo", "mpg": "video/mpeg"}
_USUAL = "video/mp4"


class Clips:
    """Attaches videos to questions; takes over `fetcher` and `pool`.

    What `direct` covers the provider reads itself, by its URI; everything else is fetched here, and is sent only if it
    decodes: so nothing is paid for a file that is no video, or longer than it says.
    """

    def __init__(self, fetcher: MediaFetcher, pool: DecodePool, direct: MediaRules, terms: VideoTerms) -> None:
        self._fetcher = fetcher
        self._pool = pool
        self._direct = direct
        self._terms = terms.sampling.encode()

    @asynccontextmanager
    async def attach(self, questions: Sequence[Question]) -> AsyncGenerator[list[Question]]:
        """Give the questions, with the videos of those that have one that can be had; files stay until the end."""
        async with AsyncExitStack() as stack:
            yield list(await asyncio.gather(*(self._attached(stack, question) for question in questions)))

    async def close(self) -> None:
        """Free everything."""
        await self._pool.close()
        await self._fetcher.close()

    async def _attached(self, stack: AsyncExitStack, question: Question) -> Question:
        uri = question.upload.media_uri
        if uri is None:
            return question
        try:
            return replace(question, clip=self._by_uri(uri) or await self._by_file(stack, uri))
        except MediaProblem:
            return question  # the annotation already says why; the text is asked about

    def _by_uri(self, uri: str) -> Clip | None:
        return _named(uri, self._terms, None) if _permits(self._direct, uri) else None

    async def _by_file(self, stack: AsyncExitStack, uri: str) -> Clip:
        path = await stack.enter_async_context(self._fetcher.fetch(uri))
        decoded = await self._pool.decode(path, _PROBE)
        digest, size = await asyncio.to_thread(_digest, path)
        return Clip(sha256(self._terms + digest).digest(), _mime(uri), decoded.seconds, path=path, size=size)


@dataclass(frozen=True)
class PresumedClips:
    """The clips that `Clips` would attach if all was as its uploads say, for an estimate: nothing is fetched."""

    allow: MediaRules
    direct: MediaRules
    terms: VideoTerms

    def of(self, upload: VideoUpload) -> Clip | None:
        """Return the clip of a video that may be shown to the LLM; as long as the upload says, if it does."""
        uri = upload.media_uri
        if uri is None or not (_permits(self.direct, uri) or _permits(self.allow, uri)):
            return None
        seconds = None if upload.duration_ms is None else upload.duration_ms / 1_000
        return _named(uri, self.terms.sampling.encode(), seconds)


def _permits(rules: MediaRules, uri: str) -> bool:
    try:
        rules.check(uri)
    except MediaProblem:
        return False
    return True


def _named(uri: str, terms: bytes, seconds: float | None) -> Clip:
    return Clip(sha256(terms + uri.encode()).digest(), _mime(uri), seconds, uri=uri)


def _mime(uri: str) -> str:
    return _KINDS.get(uri.partition("?")[0].rpartition(".")[2].lower(), _USUAL)


def _digest(path: Path) -> tuple[bytes, int]:
    digest, size = sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
            size += len(piece)
    return digest.digest(), size
