"""What the LLM said, held against what it was asked: nothing is believed that was not checked."""

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from models.annotator import Answered, Declined, Question, Verdict
from models.llm_outcome import Replied, Retry
from models.plain_text import clean, folded
from models.prompt import video_text
from monitoring import metrics
from schemas.attributes import Catalogue

_MAX_EVIDENCE = 500
# Shorter ones stand in every text; other scripts say something with less.
_LEAST_LATIN = 3
_LABELS: dict[str, bool | None] = {"yes": True, "no": False, "unclear": None}
_NOT_FOUND = "the LLM's evidence is not in the video's text"
_MOMENT = re.compile(r"\[\d{1,3}:\d\d\] ?\w")
_NONE_GIVEN = "the LLM said yes and named no evidence"


class _Verdict(Struct, frozen=True):
    attribute: str
    verdict: Literal["yes", "no", "unclear"]
    evidence: str = ""


class _Answer(Struct, frozen=True):
    video_id: str
    verdicts: Sequence[_Verdict]
    speaks_to_rater: bool = False


class _Answers(Struct, frozen=True):
    answers: Sequence[_Answer]


_decode = msgspec.json.Decoder(_Answers).decode


def unanswerable(question: Question, catalogue: Catalogue) -> Declined | None:
    """Return why `question` need not be asked, or None where it should be."""
    unknown = [attribute for attribute in question.attributes if attribute not in catalogue.ids]
    if unknown:
        return Declined(f"not in the catalogue: {', '.join(unknown)[:200]}")
    if not video_text(question.upload) and question.clip is None:
        return Declined("the video has no text to judge")
    return None


def read_outcome(text: str, asked: Mapping[str, Question]) -> Replied | Retry:
    """Return how a request ended whose reply is `text`; `asked` in the order in which it was asked."""
    try:
        answers = read_answers(text, asked)
    except (msgspec.DecodeError, RecursionError) as error:
        return Retry("malformed", f"the answer broke the schema twice: {error}"[:300])
    if len(asked) == 1 and not answers:
        return Retry("missing", "the answer left out the video or one of its attributes")
    return Replied({i: answers[key] for i, key in enumerate(asked) if key in answers})


def read_answers(text: str, asked: Mapping[str, Question]) -> dict[str, Answered]:
    """Return the answers in `text` by the id that was given out.

    An id is left out when it was answered twice, or when an asked attribute is missing or was decided twice. Ids and
    attributes that were not asked for are ignored. A yes must quote the video, and whatever is quoted must stand in
    the text of this very video: otherwise a video that was asked about alone gets an unclear, with the reason, and one
    that shared the request is left out, because a neighbour may have spoken for it. For the same reason all are left
    out where the LLM says of one that it speaks to its rater.

    Raises:
        msgspec.DecodeError: `text` is not JSON, or (as ValidationError) breaks the schema or its enum.

    """
    answers = _decode(text.encode(errors="replace")).answers
    times = Counter(answer.video_id for answer in answers)
    _count("unknown_id", sum(key not in asked for key in times))
    _count("doubled_id", sum(times[key] > 1 for key in asked))
    if len(asked) > 1 and any(answer.speaks_to_rater for answer in answers):
        _count("beside_one_that_speaks_to_rater", len(asked))
        return {}
    believed: dict[str, Answered] = {}
    for answer in answers:
        if answer.video_id in asked and times[answer.video_id] == 1:
            answered = _answered(answer, asked[answer.video_id], alone=len(asked) == 1)
            if answered is not None:
                believed[answer.video_id] = answered
    return believed


def _answered(answer: _Answer, question: Question, *, alone: bool) -> Answered | None:
    times = Counter(verdict.attribute for verdict in answer.verdicts)
    if any(times[attribute] != 1 for attribute in question.attributes):
        _count("incomplete")
        return None
    fields = [folded(text) for text in video_text(question.upload).values()]
    said = [verdict for verdict in answer.verdicts if verdict.attribute in question.attributes]
    watched = question.clip is not None
    verdicts = {verdict.attribute: _checked(verdict, fields, watched=watched) for verdict in said}
    unfounded = sum(verdict.reason is not None for verdict in verdicts.values())
    _count("unfounded", unfounded)
    return None if unfounded and not alone else Answered(verdicts, answer.speaks_to_rater)


def _checked(said: _Verdict, fields: Sequence[str], *, watched: bool) -> Verdict:
    label, evidence = _LABELS[said.verdict], _evidence(said.evidence, fields)
    if evidence is None and watched and _MOMENT.match(clean(said.evidence)):
        evidence = clean(said.evidence)[:_MAX_EVIDENCE]  # of a video nothing can be quoted
    if label is None or evidence is not None:
        return Verdict(label, evidence)
    if clean(said.evidence):
        return Verdict(None, None, _NOT_FOUND)
    return Verdict(None, None, _NONE_GIVEN) if label else Verdict(label)


def _evidence(quoted: str, fields: Sequence[str]) -> str | None:
    """Return the quotation if some field of the video contains it; see `folded` for what does not count."""
    # The LLM read the text with `<>&` escaped and may quote it either way, and in quotation marks.
    for candidate in (clean(quoted), clean(html.unescape(quoted))):
        sought = folded(candidate).strip("\"' ")
        tiny = sought.isascii() and len(sought) < _LEAST_LATIN
        if sought and any(field == sought if tiny else sought in field for field in fields):
            return candidate[:_MAX_EVIDENCE]
    return None


def _count(why: str, times: int = 1) -> None:
    if times:
        metrics.LLM_DISBELIEVED.labels(why).inc(times)
