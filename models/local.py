"""An annotator that needs no network and no key: SmolLM2-135M, in this process.

It proves the plumbing. It is not a trustworthy teacher: at this size a model can't follow a rubric, so it is asked
which attribute's name would continue a sentence, and it is often wrong. Don't train on its answers, and don't rely on
them for policy attributes.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Self

import msgspec
from msgspec import Meta

from models.annotator import Answered, Outcome, Question, Verdict
from models.answer import unanswerable
from models.prompt import PromptFile, load_prompt, version_of, video_text
from models.smollm import ForcedChoice
from schemas.annotation import AnnotatorVersion
from schemas.attributes import Catalogue
from schemas.errors import ConfigurationError
from schemas.events import VideoUpload


class LocalPrompt(PromptFile, frozen=True, forbid_unknown_fields=True):
    """A sentence to continue, texts that show the model's bias, and the shares that decide."""

    line: str
    usual: Annotated[tuple[str, ...], Meta(min_length=1)]
    yes: Annotated[float, Meta(gt=0.0)]
    no: Annotated[float, Meta(ge=0.0)]
    max_bytes: Annotated[int, Meta(ge=1, le=500)]


class LocalAnnotator:
    """Forced choice among the names of the catalogue's attributes, with the model's usual bias subtracted.

    One prompt gives the shares of all attributes. Subtracting a prior is contextual calibration (Zhao et al. 2021,
    arXiv 2102.09690), here over texts of all moods instead of content-free ones. The same question always gets the
    same answer.
    """

    def __init__(self, catalogue: Catalogue, choice: ForcedChoice) -> None:
        """Read the examples: some four seconds of CPU. `choice` must be among the names of `catalogue`."""
        self._catalogue = catalogue
        self._choice = choice
        self._prompt = load_prompt("local", LocalPrompt)
        self._examples = "".join(
            self._prompt.line.format(text=_quotable(attribute.positive_examples[0]), name=attribute.name)
            for attribute in catalogue.attributes
        )
        self._version = version_of(
            "local", choice.model, self._prompt, self._examples, msgspec.json.encode(self._prompt)
        )
        # One thread: the model holds one prompt at a time.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-llm")
        usual = [self._log_shares(text) for text in self._prompt.usual]
        self._bias = {i: sum(shares[i] for shares in usual) / len(usual) for i in catalogue.ids}

    @classmethod
    def load(cls, catalogue: Catalogue) -> Self:
        """Load model and examples; blocks for some five seconds.

        Raises:
            ConfigurationError: xllamacpp or the model is not installed, or the model can't choose among the names.

        """
        if len(catalogue.ids) < 2:
            raise ConfigurationError("the local LLM chooses among attributes: the catalogue must have at least two")
        return cls(catalogue, ForcedChoice({attribute.id: attribute.name for attribute in catalogue.attributes}))

    @property
    def version(self) -> AnnotatorVersion:
        """Model file, prompt, and the hash of examples, texts and thresholds."""
        return self._version

    async def annotate(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Return one outcome per question, in order; verdicts carry no evidence, the model can't name any."""
        loop = asyncio.get_running_loop()
        return [
            unanswerable(question, self._catalogue) or await loop.run_in_executor(self._thread, self._answer, question)
            for question in questions
        ]

    async def close(self) -> None:
        """Wait for the question in work and free the model's memory; the annotator can't be used afterwards."""
        await asyncio.to_thread(self._thread.shutdown)
        await asyncio.to_thread(self._choice.close)

    def _answer(self, question: Question) -> Answered:
        shares = self._shares(question.upload)
        return Answered({attribute: Verdict(self._label(shares[attribute])) for attribute in question.attributes})

    def _label(self, share: float) -> bool | None:
        even = 1 / len(self._catalogue.ids)
        if share >= self._prompt.yes * even:
            return True
        return False if share < self._prompt.no * even else None

    def _shares(self, upload: VideoUpload) -> Mapping[str, float]:
        """Return how the choice falls, by attribute; sums to one."""
        whole = ". ".join(video_text(upload).values()).encode()
        text = whole[: self._prompt.max_bytes].decode(errors="ignore").rstrip()
        odds = {i: math.exp(log - self._bias[i]) for i, log in self._log_shares(text).items()}
        total = sum(odds.values())
        return {i: value / total for i, value in odds.items()}

    def _log_shares(self, text: str) -> Mapping[str, float]:
        before_name = self._prompt.line.partition(" {name}")[0]
        return self._choice.log_shares(self._examples + before_name.format(text=_quotable(text)))


def _quotable(text: str) -> str:
    """Return `text` without what would end the quotation or be read as a control token."""
    return text.replace('"', "'").replace("<|", "< |")
