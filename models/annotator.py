"""The protocol of LLM annotators: questions about videos in, one outcome per question out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.clip import Clip
from schemas.annotation import AnnotatorVersion
from schemas.events import VideoUpload


@dataclass(frozen=True)
class Question:
    """Does this video have these attributes (ids of the catalogue)?

    `gain` is how many wrong labels an answer is expected to set right; when money is short, it goes where that is most.
    `alone`: the answer matters so much that no other video's text may be in the same request. `clip`: the video itself,
    for an LLM that sees; such a question has a request of its own.
    """

    upload: VideoUpload
    attributes: tuple[str, ...]
    gain: float = math.inf
    alone: bool = False
    clip: Clip | None = None


@dataclass(frozen=True)
class Verdict:
    """One attribute: present, absent, or None where the LLM found it unclear; with the passage that shows it.

    `reason` says why it counts as unclear although the LLM said something else.
    """

    label: bool | None
    evidence: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Answered:
    """The LLM answered; the mapping holds every attribute of the question.

    `speaks_to_rater`: it found that the text speaks to its rater, who then may have been talked into an answer.
    """

    verdicts: Mapping[str, Verdict]
    speaks_to_rater: bool = False


@dataclass(frozen=True)
class Declined:
    """This question will never be answered: blocked, cut off, or malformed twice. The student's guess stands."""

    reason: str


@dataclass(frozen=True)
class Postponed:
    """This question was not answered this time: no money for it, or it fails while others succeed; ask it later."""

    reason: str


Outcome = Answered | Declined | Postponed


class Annotator(Protocol):
    """An LLM that decides attributes. Implementations count their calls and tokens in `monitoring.metrics`."""

    @property
    def version(self) -> AnnotatorVersion:
        """What answers: it is written into every annotation."""
        ...

    async def annotate(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Return one outcome per question, in order.

        Raises:
            AnnotatorUnavailable: the service can't be asked now (rate limit, credentials, network); try later.

        """
        ...

    async def close(self) -> None:
        """Release connections, threads and memory."""
        ...
