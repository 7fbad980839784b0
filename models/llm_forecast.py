"""What questions will cost, before they are asked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from models.annotator import Question
from models.llm_outcome import NOTHING, Llm, Usage

_BYTES_PER_TOKEN = 4
_TOKENS_PER_VERDICT = 40


@dataclass(frozen=True)
class Forecast:
    """`likely` takes 4 bytes a token and 40 tokens a verdict; `most` is what the budget would reserve.

    `video_tokens`, part of both, are those of the videos that go along: they are the same whatever a video shows.
    """

    requests: int = 0
    video_tokens: int = 0
    likely: Usage = NOTHING
    most: Usage = NOTHING

    def __add__(self, other: "Forecast") -> "Forecast":
        """Return the forecast of both."""
        return Forecast(
            self.requests + other.requests,
            self.video_tokens + other.video_tokens,
            self.likely + other.likely,
            self.most + other.most,
        )


def forecast(llm: Llm, requests: Iterable[Sequence[Question]]) -> Forecast:
    """Return what these requests will take if none of them fails."""
    return sum((_one(llm, questions) for questions in requests), Forecast())


def _one(llm: Llm, questions: Sequence[Question]) -> Forecast:
    most = llm.most(questions)
    told = llm.most([replace(question, clip=None) for question in questions]).input_tokens
    videos = most.input_tokens - told
    verdicts = sum(len(question.attributes) for question in questions)
    return Forecast(1, videos, Usage(told // _BYTES_PER_TOKEN + videos, verdicts * _TOKENS_PER_VERDICT), most)
