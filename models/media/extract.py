"""Text that is made of a decoded video: what is written in its frames, and what is said in it."""

import asyncio
import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from models.media.decode import Decoded
from monitoring import metrics

log = logging.getLogger(__name__)

Kind = Literal["on_screen", "heard"]
MOST_CHARACTERS: Mapping[Kind, int] = {"on_screen": 1_000, "heard": 4_000}
"""What is kept of a text: as much as a student reads, and as an LLM is shown of a transcript."""


class Extractor(Protocol):
    """Makes text of a decoded video, off the event loop; cancelled where it takes too long."""

    @property
    def kind(self) -> Kind:
        """on_screen: from `Decoded.whole`; heard: from `Decoded.sound`."""
        ...

    async def extract(self, decoded: Decoded) -> str:
        """Return the text; empty where there is none."""
        ...

    async def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass(frozen=True)
class Extracted:
    """The texts by kind, none of them empty; `failures` say what was not made, for people."""

    texts: Mapping[Kind, str] = field(default_factory=dict[Kind, str])
    failures: Sequence[str] = ()


class Extractors:
    """Runs the extractors that it takes over: `places` at once, `seconds` for each on a video.

    One that fails or takes too long costs its own text and never the video: the rest of it counts.
    """

    def __init__(self, extractors: Sequence[Extractor] = (), seconds: float = 20.0, places: int = 2) -> None:
        self._extractors = tuple(extractors)
        self._seconds = seconds
        self._places = asyncio.Semaphore(places)

    @property
    def kinds(self) -> frozenset[Kind]:
        """What they make."""
        return frozenset(one.kind for one in self._extractors)

    async def extract(self, decoded: Decoded, known: Container[Kind] = ()) -> Extracted:
        """Return the texts of a video but those that are `known` already."""
        texts: dict[Kind, str] = {}
        failures: list[str] = []
        for extractor in self._extractors:
            if extractor.kind in known:
                continue
            text, failure = await self._ask(extractor, decoded)
            if text:
                texts[extractor.kind] = text
            if failure:
                failures.append(failure)
        return Extracted(texts, failures)

    async def close(self) -> None:
        """Free them; nothing may be under way."""
        for extractor in self._extractors:
            await extractor.close()

    async def _ask(self, extractor: Extractor, decoded: Decoded) -> tuple[str, str | None]:
        kind = extractor.kind
        outcome, text, failure = "failed", "", None
        async with self._places:
            with metrics.MEDIA_SECONDS.labels(kind).time():
                try:
                    async with asyncio.timeout(self._seconds):
                        text = (await extractor.extract(decoded))[: MOST_CHARACTERS[kind]].strip()
                        text.encode()  # what can't be written as UTF-8 could not be sent on
                    outcome = "found" if text else "none"
                except TimeoutError:
                    outcome, failure = "late", f"{kind}: no text within {self._seconds:g} s"
                except Exception as error:  # its author's mistakes are no reason to lose a stranger's video
                    log.exception("the extractor of text that is %s failed", kind)
                    failure = f"{kind}: {type(error).__name__}: {error}"[:150]
        metrics.MEDIA_TEXTS.labels(kind, outcome).inc()
        return ("" if failure else text), failure
