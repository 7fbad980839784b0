"""The cascade on one title, or one video, without a broker."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table

from models.annotator import Answered, Question, Verdict
from models.cascade import decide
from models.features import upload_text
from models.media.look import Look
from models.seen import NOTHING
from models.student import Student
from schemas.annotation import AttributeScore, Media
from schemas.attributes import load_catalogue
from schemas.errors import ConfigurationError
from schemas.events import UNKNOWN_CREATOR, VideoUpload
from streams.media import used_by
from topology.annotator import make_annotator
from topology.bundle import bundle_path
from topology.extractors import makes_text
from topology.media import make_clips, make_looker
from topology.settings import Settings, with_changes


@dataclass(frozen=True)
class TitleResult:
    """What the student says, what the LLM answers to what it was asked, and why it did not, if so."""

    scores: Mapping[str, AttributeScore]
    verdicts: Mapping[str, Verdict]
    failure: str | None = None
    look: Look | None = None


async def annotate_title(settings: Settings, title: str, *, everything: bool, file: Path | None = None) -> TitleResult:
    """Score `title`, with the video in `file`, and ask the LLM about `everything`, or else about what is uncertain.

    Raises:
        ConfigurationError: the title is empty or too long, or the LLM or what looks at videos is not set up.
        AnnotatorUnavailable: the LLM can't be asked.

    """
    if len(title.strip()) > 500 or not (title.strip() or file):
        raise ConfigurationError(f"a title has 1 to 500 characters, this one {len(title.strip())}")
    catalogue = load_catalogue(settings.catalogue_path)
    student = Student.load(bundle_path(settings), catalogue, settings.provider)
    try:
        upload = VideoUpload(
            schema_version=1,
            video_id="title",
            creator_id=UNKNOWN_CREATOR,
            uploaded_at_ms=0,
            title=title,
            media_uri=file.resolve().as_uri() if file else None,
        )
        look = await _look(settings, student, file, upload) if file else None
        if look:
            upload = look.beside(upload)
        scored = await student.score_seen([upload_text(upload)], [look.seen if look else NOTHING])
    finally:
        student.close()
    scores = decide(scored.probability[0], student.bands, student.ids)
    asked = tuple(name for name, score in scores.items() if everything or score.label is None)
    if not asked:
        return TitleResult(scores, {}, look=look)
    annotator = make_annotator(settings, catalogue, patient=False)
    clips = make_clips(_allowing(settings, file)) if file else None
    try:
        async with AsyncExitStack() as stack:
            questions = [Question(upload, asked)]
            if clips is not None:
                questions = await stack.enter_async_context(clips.attach(questions))
            (outcome,) = await annotator.annotate(questions)
    finally:
        await annotator.close()
        if clips is not None:
            await clips.close()
    if isinstance(outcome, Answered):
        return TitleResult(scores, outcome.verdicts, look=look)
    return TitleResult(scores, {}, f"the LLM gave no answer: {outcome.reason}; the student's guess stands", look)


async def _look(settings: Settings, student: Student, file: Path, upload: VideoUpload) -> Look:
    """Look at a file that the operator names, so that its folder is allowed."""
    if not (student.frames or student.sound or makes_text(settings)):
        return Look(Media("unused", f"student {student.version.name} {student.version.version} reads text only"))
    looker = make_looker(_allowing(settings, file), student)
    try:
        (look,) = await looker.look([upload])
    finally:
        await looker.close()
    return replace(look, media=used_by(student, look))


def _allowing(settings: Settings, file: Path) -> Settings:
    return with_changes(settings, media_allow=file.resolve().parent.as_uri())


def table(result: TitleResult) -> Table:
    """Return the result to print, the likeliest attributes first."""
    made = Table("attribute", "p", "student", "LLM", "source", "evidence", box=None)
    for name, score in sorted(result.scores.items(), key=lambda item: -item[1].p):
        verdict = result.verdicts.get(name)
        said = "" if verdict is None else _SAID[verdict.label]
        source = "student" if verdict is None or verdict.label is None else "llm"
        made.add_row(name, f"{score.p:.2f}", score.band, said, source, (verdict.evidence if verdict else None) or "")
    if not result.verdicts and not result.failure:
        made.caption = "The student leaves nothing open: the LLM was not asked."
    if result.look is not None:
        made.title = _seen(result.look)
    return made


def _seen(look: Look) -> str:
    media = look.media
    parts = [f"video: {media.status}"]
    if media.frames:
        parts.append(f"{media.frames} frames at {', '.join(f'{time:.1f}' for time in look.times)} s")
    if media.sound:
        parts.append("sound")
    parts += [f"{_TEXTS[kind]} “{' '.join(text.split())[:_SHOWN]}”" for kind, text in look.texts.items()]
    return "; ".join([*parts, *([media.reason] if media.reason else [])])


_TEXTS = {"on_screen": "on screen", "heard": "heard"}
_SHOWN = 200
_SAID = {True: "yes", False: "no", None: "unclear"}
