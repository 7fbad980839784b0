"""A video that the LLM itself is given, and what that costs."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Resolution = Literal["low", "medium", "high"]

# As Google documents them for video; high is the most that any of its models counts.
_TOKENS_PER_FRAME: dict[Resolution, int] = {"low": 66, "medium": 258, "high": 280}
_TOKENS_PER_SECOND_OF_SOUND = 32
_TOKENS_AROUND = 64


@dataclass(frozen=True)
class Clip:
    """A video: a file here, or a URI that the provider fetches itself.

    `digest` stands for its content (of a URI: for the URI) and how it is seen; `seconds` is how long it says it is,
    None: not known.
    """

    digest: bytes
    mime: str
    seconds: float | None
    path: Path | None = None
    uri: str | None = None
    size: int = 0


@dataclass(frozen=True)
class VideoTerms:
    """How the LLM sees videos: frames a second, tokens a frame, and at most the first `max_seconds`.

    A file of up to `inline_bytes` goes along with the request, a larger one by upload. `upload_s` bounds the upload and
    the provider's processing of it.
    """

    fps: float = 1.0
    resolution: Resolution = "low"
    max_seconds: float = 60.0
    inline_bytes: int = 8 * 2**20
    upload_s: float = 60.0

    @property
    def sampling(self) -> str:
        """What an answer depends on."""
        return f"video fps={self.fps:g} resolution={self.resolution} seconds={self.max_seconds:g}"

    def seconds(self, clip: Clip) -> float:
        """Return how much of it is seen."""
        return self.max_seconds if clip.seconds is None else min(clip.seconds, self.max_seconds)

    def most(self, clip: Clip) -> int:
        """Return a bound of its tokens, a second more than what is seen: frames are counted up."""
        seconds = self.seconds(clip) + 1
        frames = math.ceil(seconds * self.fps)
        return (
            frames * _TOKENS_PER_FRAME[self.resolution]
            + math.ceil(seconds * _TOKENS_PER_SECOND_OF_SOUND)
            + _TOKENS_AROUND
        )
