"""The videos that a session stage makes lists of, whoever holds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.annotation import Annotation
from streams.retriever import Float32s, Int32s, Retriever


@dataclass(frozen=True)
class VideoView:
    """What a watch learns of its video: attributes by id (1 where present, else the student's p) and its vector.

    Attributes that are decided absent, or unknown, are left out.
    """

    probabilities: dict[str, float]
    vector: Float32s | None


class Videos(Retriever, Protocol):
    """A retriever that follows the annotations. Used from one thread."""

    def views(self, video_ids: Sequence[str]) -> list[VideoView | None]:
        """Return what is known of each video; None where it is unknown or removed."""
        ...

    def apply(self, annotations: Sequence[Annotation]) -> None:
        """Take over annotations in any order; one of a lower or equal seq than its video's changes nothing."""
        ...

    def shed(self, kept: Int32s) -> Int32s | None:
        """Forget rows but `kept` if there are too many; return new numbers by old row, negative for the forgotten.

        None: nothing was forgotten, and all rows keep their numbers.
        """
        ...
