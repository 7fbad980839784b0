"""What an answer of the LLM is expected to change; it decides who is asked when the money does not reach for all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.annotation import AttributeScore
from schemas.attributes import Catalogue

TEACHER_ERROR = 0.05
"""How often the LLM is taken to be wrong about an attribute."""

_OPEN_POLICY = 0.5
_GUESSED = 0.5
# Until enough videos were seen, every attribute is taken to be as frequent as this.
_PRIOR, _PRIOR_VIDEOS = 0.1, 200


@dataclass(frozen=True)
class Weights:
    """What a correction counts; the defaults were chosen on texts that no measurement uses (tests/benchmarks/budget).

    An attribute counts by its mean p to the power of -`rarity`: one wrong label of a rare one costs its F1 as much as
    many of a frequent one. A present attribute that the student would miss counts `missed` times as much as one that it
    would see where there is none: it adds to both sides of F1. `teacher_error` is how often the LLM is taken to be
    wrong; measure it on your golden set.
    """

    rarity: float = 1.0
    missed: float = 3.0
    teacher_error: float = TEACHER_ERROR


class ExpectedGain:
    """Sums weight * (probability that the student's guess is wrong - teacher_error) over the attributes that are asked.

    A policy attribute has no guess to fall back on: while it is open the video is not served, as if the guess were as
    bad as can be.
    """

    def __init__(self, catalogue: Catalogue, weights: Weights | None = None) -> None:
        self._catalogue = catalogue
        self._weights = weights or Weights()
        self._videos = _PRIOR_VIDEOS
        self._sums = dict.fromkeys(catalogue.ids, _PRIOR * _PRIOR_VIDEOS)

    def of(self, scores: Mapping[str, AttributeScore]) -> float:
        """Return the gain of asking about the attributes of `scores`."""
        return sum(self._gain(name, score.p) for name, score in scores.items())

    def saw(self, videos: Iterable[Mapping[str, AttributeScore]]) -> None:
        """Learn from all scores of some videos how frequent the attributes are."""
        for scores in videos:
            self._videos += 1
            for name in self._sums:
                self._sums[name] += scores[name].p if name in scores else self._sums[name] / self._videos

    def _gain(self, name: str, p: float) -> float:
        wrong = _OPEN_POLICY if self._catalogue[name].policy else min(p, 1 - p)
        side = self._weights.missed if p < _GUESSED else 1.0
        frequency = self._sums[name] / self._videos
        return side * (wrong - self._weights.teacher_error) / frequency**self._weights.rarity
