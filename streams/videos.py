"""The videos that a session stage makes lists of, whoever holds them."""

from collections.abc import Sequence
from typing import Protocol

from schemas.annotation import Annotation
from streams.retriever import Int32s, Retriever
from streams.snapshot import VideoView


class Videos(Retriever, Protocol):
    """A retriever that follows the annotations. Used from one thread."""

    def view(self, video_id: str) -> VideoView | None:
        """Return what is known of a video; None if it is unknown or removed."""
        ...

    def apply(self, annotations: Sequence[Annotation]) -> None:
        """Take over annotations in any order; one of a lower or equal seq than its video's changes nothing."""
        ...

    def shed(self, kept: Int32s) -> Int32s | None:
        """Forget rows but `kept` if there are too many; return new numbers by old row, negative for the forgotten.

        None: nothing was forgotten, and all rows keep their numbers.
        """
        ...
