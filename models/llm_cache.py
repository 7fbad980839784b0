"""What the LLM said, as it is kept: keyed by what it was told, so that asking again costs nothing."""

import hashlib

import msgspec
from msgspec import Struct

from models.annotator import Answered, Declined, Question, Verdict
from models.llm_outcome import Llm
from models.prompt import video_text


class _Kept(Struct, frozen=True, omit_defaults=True):
    verdicts: dict[str, tuple[bool | None, str | None, str | None]] = {}
    declined: str | None = None
    speaks_to_rater: bool = False


_decode = msgspec.json.Decoder(_Kept).decode


def content_key(question: Question, llm: Llm) -> bytes:
    """Return the key of a video's text under one rubric, schema, model and sampling; whatever is asked about it."""
    content = hashlib.sha256(msgspec.json.encode(list(video_text(question.upload).items()))).digest()
    if question.clip is not None:
        content += question.clip.digest
    told = hashlib.sha256(msgspec.json.encode(llm.version) + llm.sampling.encode()).digest()
    return hashlib.sha256(content + told).digest()


def keep(outcome: Answered | Declined) -> bytes:
    """Return the outcome as it is kept."""
    if isinstance(outcome, Declined):
        return msgspec.json.encode(_Kept(declined=outcome.reason))
    verdicts = {name: (v.label, v.evidence, v.reason) for name, v in outcome.verdicts.items()}
    return msgspec.json.encode(_Kept(verdicts, speaks_to_rater=outcome.speaks_to_rater))


def merge(known: bytes, new: bytes) -> bytes:
    """Return both answers about one video; the new one counts where they differ."""
    before, after = _decode(known), _decode(new)
    speaks = before.speaks_to_rater or after.speaks_to_rater
    return msgspec.json.encode(_Kept({**before.verdicts, **after.verdicts}, after.declined, speaks))


def recall(kept: bytes, question: Question) -> Answered | Declined | None:
    """Return what is known of `question`, None if some attribute was never asked about."""
    known = _decode(kept)
    if known.verdicts.keys() >= set(question.attributes):
        verdicts = {name: Verdict(*known.verdicts[name]) for name in question.attributes}
        return Answered(verdicts, known.speaks_to_rater)
    return None if known.declined is None else Declined(known.declined)
