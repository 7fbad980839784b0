"""What an answer of the LLM is expected to change; it decides who is asked when the money does not reach for all."""

from collections.abc import Iterable, Mapping

from schemas.annotation import AttributeScore
from schemas.attributes import Catalogue

TEACHER_ERROR = 0.05
"""How often the LLM is taken to be wrong about an attribute; measure it on your golden set."""

_OPEN_POLICY = 0.5
# Until enough videos were seen, every attribute is taken to be as frequent as this.
_PRIOR, _PRIOR_VIDEOS = 0.1, 200


class ExpectedGain:
    """Sums (min(p, 1 - p) - TEACHER_ERROR) / prevalence over the attributes that are asked.

    The student's guess is wrong with probability min(p, 1 - p). One wrong label of a rare attribute costs its F1 as
    much as many of a frequent one, so each counts by the mean p of the videos seen. A policy attribute has no guess to
    fall back on: while it is open the video is not served, as if the guess were as bad as can be.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._videos = _PRIOR_VIDEOS
        self._sums = dict.fromkeys(catalogue.ids, _PRIOR * _PRIOR_VIDEOS)

    def of(self, scores: Mapping[str, AttributeScore]) -> float:
        """Return the gain of asking about the attributes of `scores`."""
        return sum(
            (_loss(score.p, policy=self._catalogue[name].policy) - TEACHER_ERROR) * self._videos / self._sums[name]
            for name, score in scores.items()
        )

    def saw(self, videos: Iterable[Mapping[str, AttributeScore]]) -> None:
        """Learn from all scores of some videos how frequent the attributes are."""
        for scores in videos:
            self._videos += 1
            for name in self._sums:
                self._sums[name] += scores[name].p if name in scores else self._sums[name] / self._videos


def _loss(p: float, *, policy: bool) -> float:
    return _OPEN_POLICY if policy else min(p, 1 - p)
