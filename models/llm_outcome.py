"""How one request to an LLM ends: answered, retry, permanent or park. Whoever asked needs to know no more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from models.annotator import Answered, Question
from schemas.annotation import AnnotatorVersion

ServiceFault = Literal["overloaded", "timeout", "network", "unreadable"]
AnswerFault = Literal["cut_off", "malformed", "missing"]


@dataclass(frozen=True)
class Usage:
    """Tokens as they are billed; thoughts are output. `cached_tokens` are those of the input that cost less."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Return the tokens of both."""
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
        )


NOTHING = Usage(0, 0)


@dataclass(frozen=True)
class Replied:
    """Answers by position among the questions; some may be missing, unless there was only one."""

    answers: Mapping[int, Answered]


@dataclass(frozen=True)
class Retry:
    """Another try may succeed, `after_s` seconds from now where the service said so.

    rate_limit: we ask too often. A ServiceFault says something about the service's health. An AnswerFault lies in the
    one answer: it ended early, broke the schema or left a video out.
    """

    cause: Literal["rate_limit"] | ServiceFault | AnswerFault
    reason: str
    after_s: float = 0.0


@dataclass(frozen=True)
class Permanent:
    """These questions will never be answered. refused: for their content. rejected: the request was called invalid."""

    cause: Literal["refused", "rejected"]
    reason: str


@dataclass(frozen=True)
class Park:
    """No request has a chance for `for_s` seconds, or until an operator mends something."""

    cause: Literal["quota", "credentials", "model", "request"]
    reason: str
    for_s: float


RequestOutcome = Replied | Retry | Permanent | Park


@dataclass(frozen=True)
class Call:
    """A request that was made. `usage` is None where it may have been billed and nobody told us how much."""

    outcome: RequestOutcome
    usage: Usage | None


class Llm(Protocol):
    """One request to one model: no retries, no limits, no memory."""

    @property
    def version(self) -> AnnotatorVersion:
        """Model and prompt."""
        ...

    @property
    def sampling(self) -> str:
        """Whatever else an answer depends on, apart from the question."""
        ...

    def most(self, questions: Sequence[Question], room: int = 1) -> Usage:
        """Return a bound of what a request with these questions can be billed."""
        ...

    async def ask(self, questions: Sequence[Question], *, room: int = 1, repair: bool = False) -> Call:
        """Make one request; never raises for what the service does.

        `room` multiplies the length that the answer may have; `repair` says that the last answer broke the schema.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
