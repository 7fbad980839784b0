"""What the LLM said, held against what it was asked: nothing is believed that was not checked."""

import html
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from models.annotator import Answered, Declined, Question, Verdict
from models.prompt import clean, video_text
from schemas.attributes import Catalogue

_MAX_EVIDENCE = 500
_LABELS: dict[str, bool | None] = {"yes": True, "no": False, "unclear": None}


class _Verdict(Struct, frozen=True):
    attribute: str
    verdict: Literal["yes", "no", "unclear"]
    evidence: str = ""


class _Answer(Struct, frozen=True):
    video_id: str
    verdicts: Sequence[_Verdict]


class _Answers(Struct, frozen=True):
    answers: Sequence[_Answer]


_decode = msgspec.json.Decoder(_Answers).decode


def unanswerable(question: Question, catalogue: Catalogue) -> Declined | None:
    """Return why `question` need not be asked, or None where it should be."""
    unknown = [attribute for attribute in question.attributes if attribute not in catalogue.ids]
    if unknown:
        return Declined(f"not in the catalogue: {', '.join(unknown)[:200]}")
    if not video_text(question.upload):
        return Declined("the video has no text to judge")
    return None


def read_answers(text: str, asked: Mapping[str, Question]) -> dict[str, Answered]:
    """Return the answers in `text` by the id that was given out.

    An id is left out when it was answered twice, or when an asked attribute is missing or was decided twice. Ids and
    attributes that were not asked for are ignored.

    Raises:
        msgspec.DecodeError: `text` is not JSON, or (as ValidationError) breaks the schema or its enum.

    """
    answers = _decode(text.encode(errors="replace")).answers
    ids = [answer.video_id for answer in answers]
    return {
        answer.video_id: answered
        for answer in answers
        if answer.video_id in asked
        and ids.count(answer.video_id) == 1
        and (answered := _answered(answer, asked[answer.video_id])) is not None
    }


def _answered(answer: _Answer, question: Question) -> Answered | None:
    said = [verdict.attribute for verdict in answer.verdicts]
    if any(said.count(attribute) != 1 for attribute in question.attributes):
        return None
    fields = [_folded(text) for text in video_text(question.upload).values()]
    return Answered(
        {
            verdict.attribute: Verdict(_LABELS[verdict.verdict], _evidence(verdict.evidence, fields))
            for verdict in answer.verdicts
            if verdict.attribute in question.attributes
        }
    )


def _evidence(quoted: str, fields: Sequence[str]) -> str | None:
    """Return the quotation if some field of the video contains it, whatever its case."""
    # The LLM read the text with `<>&` escaped and may quote it either way.
    for candidate in (clean(quoted), clean(html.unescape(quoted))):
        if candidate and any(_folded(candidate) in field for field in fields):
            return candidate[:_MAX_EVIDENCE]
    return None


def _folded(text: str) -> str:
    return text.casefold()
