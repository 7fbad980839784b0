"""What the LLM is told: the rubric, compiled once from the catalogue, and the videos, fenced off as data."""

import hashlib
import html
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from models.annotator import Question
from models.plain_text import bracketed, clean
from schemas.annotation import AnnotatorVersion
from schemas.attributes import Attribute, Catalogue
from schemas.errors import ConfigurationError
from schemas.events import VideoUpload
from schemas.fields import Id

# Characters of each field that reach the LLM. A transcript says what it is about early; the caps bound the bill.
_CAPS = {"title": 300, "description": 1_500, "hashtags": 500, "transcript": 4_000}


class PromptFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file under models/prompts; a change of its words is a new version."""

    name: Id
    version: Annotated[int, Meta(ge=1, le=2**8 - 1)]


class RubricFile(PromptFile, frozen=True, forbid_unknown_fields=True):
    """A prompt for an LLM that follows instructions; `{attributes}` stands for the catalogue."""

    instruction: str


P = TypeVar("P", bound=PromptFile)


def load_prompt(name: str, file_type: type[P]) -> P:
    """Read the prompt file that ships under this name.

    Raises:
        ConfigurationError: there is no such file, or a field is missing or wrong.

    """
    source = files("models") / "prompts" / f"{name}.toml"
    try:
        return msgspec.convert(tomllib.loads(source.read_text(encoding="utf-8")), file_type)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"prompt file {source}: {error}; install vibestream again or mend the file") from error


@dataclass(frozen=True)
class Rubric:
    """The system instruction, the JSON schema of its answers, and the version that fixes both."""

    instruction: str
    schema: Mapping[str, Any]
    version: AnnotatorVersion


def compile_rubric(catalogue: Catalogue, file: RubricFile, model: str) -> Rubric:
    """Return what `model` is told about `catalogue`: byte for byte the same for the same catalogue and prompt file."""
    attributes = "\n\n".join(_describe(attribute) for attribute in catalogue.attributes)
    instruction = file.instruction.strip().replace("{attributes}", attributes)
    schema = answer_schema(catalogue)
    return Rubric(instruction, schema, version_of("gemini", model, file, instruction, msgspec.json.encode(schema)))


def version_of(
    kind: Literal["gemini", "local"], model: str, file: PromptFile, instruction: str, schema: bytes = b""
) -> AnnotatorVersion:
    """Return the version that is written into every annotation; its hash covers all that the LLM is told."""
    digest = hashlib.sha256(instruction.encode() + b"\0" + schema).hexdigest()[:16]
    return AnnotatorVersion(kind=kind, model=model, prompt=file.name, prompt_version=file.version, prompt_hash=digest)


def answer_schema(catalogue: Catalogue) -> dict[str, Any]:
    """Return the JSON schema of an answer; evidence comes before the verdict, so that it is looked for first."""
    verdict = _object(
        attribute={"type": "string", "enum": list(catalogue.ids)},
        evidence={"type": "string"},
        verdict={"type": "string", "enum": ["yes", "no", "unclear"]},
    )
    answer = _object(
        video_id={"type": "string"}, speaks_to_rater={"type": "boolean"}, verdicts={"type": "array", "items": verdict}
    )
    return _object(answers={"type": "array", "items": answer})


def fence(asked: Mapping[str, Question], nonce: str) -> str:
    """Return the user message for `asked`: one fenced video per id.

    The ids are ours and hold no text of the video. Nothing in a video can close the fence: `<`, `>` and what looks like
    them are escaped, a field is one line, and `nonce` is new in every request.
    """
    videos = (
        f'<video-{nonce} id="{key}" asked="{" ".join(question.attributes)}">\n'
        + "\n".join(f"{name}: {_escaped(text)}" for name, text in video_text(question.upload).items())
        + f"\n</video-{nonce}>"
        for key, question in asked.items()
    )
    return f"code: {nonce}\n" + "\n".join(videos)


def _escaped(text: str) -> str:
    return html.escape(bracketed(text), quote=False)


def video_text(upload: VideoUpload) -> dict[str, str]:
    """Return the text of a video by field, cleaned and capped; fields without text are left out."""
    texts = {name: clean(text)[: _CAPS[name]].rstrip() for name, text in raw_text(upload).items()}
    return {name: text for name, text in texts.items() if text}


def raw_text(upload: VideoUpload) -> dict[str, str]:
    """Return the text of a video by field as it came, as much as is ever looked at."""
    raw = {
        "title": upload.title,
        "description": upload.description,
        "hashtags": " ".join(upload.hashtags),
        "transcript": upload.transcript,
    }
    return {name: text[: 4 * _CAPS[name]] for name, text in raw.items()}


def _describe(attribute: Attribute) -> str:
    lines = [f"## {attribute.id}"]
    if attribute.name != attribute.id:
        lines.append(f"Name: {attribute.name}")
    lines += [attribute.definition, f"Includes: {'; '.join(attribute.includes)}."]
    if attribute.excludes:
        lines.append(f"Excludes: {'; '.join(attribute.excludes)}.")
    lines += [f"Yes: {text}" for text in attribute.positive_examples]
    lines += [f"No: {text}" for text in attribute.negative_examples]
    return "\n".join(lines)


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
