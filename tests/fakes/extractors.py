"""Extractors as an operator would write them: by import path in VIBESTREAM_MEDIA_EXTRACTORS."""

import asyncio

from models.media.decode import Decoded
from models.media.extract import Kind


class Speech:
    """Says how much sound it was given, or fails in one way or the other."""

    kind: Kind = "heard"

    def __init__(self, says: str | Exception | None = None) -> None:
        self.says = says
        self.asked: list[Decoded] = []
        self.closed = False

    async def extract(self, decoded: Decoded) -> str:
        self.asked.append(decoded)
        if isinstance(self.says, Exception):
            raise self.says
        if self.says == "never":
            await asyncio.Event().wait()
        return f"{len(decoded.sound)} samples" if self.says is None else self.says

    async def close(self) -> None:
        self.closed = True


class Smell(Speech):
    kind = "smelt"


class Hasty(Speech):
    def extract(self, decoded: Decoded) -> str:
        return "not async"
