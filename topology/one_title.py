"""The cascade on one title, without a broker."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from models.annotator import Answered, Question, Verdict
from models.cascade import decide
from models.features import upload_text
from models.student import Student
from schemas.annotation import AttributeScore
from schemas.attributes import load_catalogue
from schemas.errors import ConfigurationError
from schemas.events import UNKNOWN_CREATOR, VideoUpload
from topology.roles import bundle_path, make_annotator
from topology.settings import Settings


@dataclass(frozen=True)
class TitleResult:
    """What the student says, what the LLM answers to what it was asked, and why it did not, if so."""

    scores: Mapping[str, AttributeScore]
    verdicts: Mapping[str, Verdict]
    failure: str | None = None


async def annotate_title(settings: Settings, title: str, *, everything: bool) -> TitleResult:
    """Score `title` and ask the LLM about `everything`, or else about the uncertain attributes.

    Raises:
        ConfigurationError: the title is empty or too long, or the LLM is not set up.
        AnnotatorUnavailable: the LLM can't be asked.

    """
    if not 0 < len(title.strip()) <= 500:
        raise ConfigurationError(f"a title has 1 to 500 characters, this one {len(title.strip())}")
    catalogue = load_catalogue(settings.catalogue_path)
    annotator = make_annotator(settings, catalogue, patient=False)
    try:
        student = Student.load(bundle_path(settings), catalogue, settings.provider)
        upload = VideoUpload(
            schema_version=1, video_id="title", creator_id=UNKNOWN_CREATOR, uploaded_at_ms=0, title=title
        )
        scored = await student.score([upload_text(upload)])
        student.close()
        scores = decide(scored.probability[0], student.bands, student.ids)
        asked = tuple(name for name, score in scores.items() if everything or score.label is None)
        if not asked:
            return TitleResult(scores, {})
        (outcome,) = await annotator.annotate([Question(upload, asked)])
    finally:
        await annotator.close()
    if isinstance(outcome, Answered):
        return TitleResult(scores, outcome.verdicts)
    return TitleResult(scores, {}, f"the LLM gave no answer: {outcome.reason}; the student's guess stands")


def table(result: TitleResult) -> Table:
    """Return the result to print, the likeliest attributes first."""
    made = Table("attribute", "p", "student", "LLM", "evidence", box=None)
    for name, score in sorted(result.scores.items(), key=lambda item: -item[1].p):
        verdict = result.verdicts.get(name)
        said = "" if verdict is None else _SAID[verdict.label]
        made.add_row(name, f"{score.p:.2f}", score.band, said, (verdict.evidence if verdict else None) or "")
    if not result.verdicts and not result.failure:
        made.caption = "The student leaves nothing open: the LLM was not asked."
    return made


_SAID = {True: "yes", False: "no", None: "unclear"}
