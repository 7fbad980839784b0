"""Which videos may stand in one request.

What a model answers for one video because the text of another told it to can't be told from an honest answer, and no
list of words knows every way to tell it so. So a request holds videos of one creator: whoever could turn the answer
for a neighbour could have turned it in the neighbour's own text. Risky videos stand alone even among those, and so does
what decides whether a video is served.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

from models.annotator import Question
from models.plain_text import bracketed, folded, hides
from models.prompt import PromptFile, load_prompt, raw_text, video_text
from monitoring import metrics
from schemas.events import UNKNOWN_CREATOR, VideoUpload

T = TypeVar("T")
Risk = Literal["hidden", "long", "markup", "encoded", "disguised", "instructing"]
"""hidden: characters that nobody sees were taken out. long: a request of its own is hardly dearer. markup: fence-like.
encoded: a reader would have to decode it. disguised: letters of several scripts in one word, or one by one.
instructing: it speaks to its rater."""

Sharing = Literal["creator", "anyone"]
"""Whose videos may be in one request. anyone: cheaper, and a text that `risks` does not know for what it is may decide
about the videos of others."""

_LONG = 3_000
_MARKUP = re.compile(
    r"</?[A-Za-z!-]|/>|&[lg]t;?|&#"  # tags and what becomes one
    r"|\{\s*[\"']|\"\s*:\s*[\"\[{]|[\[{]{4}|[\]}]{4}"  # JSON
    r"|\b(?:id|asked|code)\s*[=:]\s*\S|video-\w|={8}|-{8}"  # our own fence, and rulers
)
_ENCODED = re.compile(
    r"\b(?=\w*\d)(?=\w*[a-z])(?=\w*[A-Z])[\w+/-]{24,}|(?:\\x[\da-fA-F]{2}|\\u[\da-fA-F]{4}|%[\da-fA-F]{2}){4,}"
)
_BLOB = re.compile(r"[A-Za-z0-9+/]{32,}")
_ONE_BY_ONE = re.compile(r"(?:\b\w[ ._*·|-]+){6,}\w\b")
_WORD = re.compile(r"\w+")
# Letters that look Latin, and digits for letters.
_LOOKALIKES = str.maketrans("абвеёзикмнорстухіјѕһԁԛԝαβεηικνορτυχ013457", "abbeezukmhopctyxijshdqwabenikvoptuxoieast")


_SMALL_CAPITALS = str.maketrans("ᴀʙᴄᴅᴇғɢʜɪᴊᴋʟᴍɴᴏᴘʀᴛᴜᴠᴡʏᴢ", "abcdefghijklmnoprtuvwyz")


@dataclass(frozen=True)
class _Words:
    phrases: re.Pattern[str]
    verbs: re.Pattern[str]
    objects: re.Pattern[str]
    near: int


class SuspiciousFile(PromptFile, frozen=True, forbid_unknown_fields=True):
    """The words of `instructing`."""

    near: int
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    phrases: tuple[str, ...]


def risks(upload: VideoUpload) -> frozenset[Risk]:
    """Return why this video must not share a request with others; empty if it may."""
    found: set[Risk] = set()
    if any(hides(text) for text in raw_text(upload).values()):
        found.add("hidden")
    whole = bracketed("\n".join(video_text(upload).values()))
    if len(whole) > _LONG:
        found.add("long")
    if _MARKUP.search(whole):
        found.add("markup")
    if _ENCODED.search(whole) or _BLOB.search(whole):
        found.add("encoded")
    if _ONE_BY_ONE.search(whole) or _mixes_scripts(whole):
        found.add("disguised")
    if _instructs(folded(whole)):
        found.add("instructing")
    return frozenset(found)


def speaks_to_the_rater(upload: VideoUpload) -> bool:
    """Tell whether the text may be meant for the LLM: no such video can clear itself of a policy attribute."""
    return bool(risks(upload) - {"long"})


def grouped(
    items: Sequence[T], question: Callable[[T], Question], size: int, sharing: Sharing = "creator"
) -> list[list[T]]:
    """Return the requests to make of `items`, `size` at most in each; see the module and `Sharing`."""
    together: defaultdict[str, list[T]] = defaultdict(list)
    alone: list[list[T]] = []
    for item in items:
        asked = question(item)
        found = [*risks(asked.upload), *(["important"] if asked.alone else []), *(["video"] if asked.clip else [])]
        for risk in found:
            metrics.LLM_ALONE.labels(risk).inc()
        creator = asked.upload.creator_id
        if found or (sharing == "creator" and creator == UNKNOWN_CREATOR):
            alone.append([item])
        else:
            together[creator if sharing == "creator" else ""].append(item)
    return [shared[at : at + size] for shared in together.values() for at in range(0, len(shared), size)] + alone


def _instructs(text: str) -> bool:
    words = _words()
    return any(
        words.phrases.search(form) or _near(words, form)
        for form in dict.fromkeys((text, _undisguised(text), text[::-1]))
    )


def _near(words: _Words, text: str) -> bool:
    verbs = [match.span() for match in words.verbs.finditer(text)]
    if not verbs:
        return False
    for match in words.objects.finditer(text):
        begin, end = match.span()
        if any(at - end <= words.near and begin - until <= words.near for at, until in verbs):
            return True
    return False


def _undisguised(text: str) -> str:
    """Return `text` with lookalikes as the letters that they look like, and words spelt letter by letter in one."""
    latin = _WORD.sub(lambda word: word[0].translate(_LOOKALIKES) if not word[0].isdigit() else word[0], text)
    bare = "".join(
        c for c in unicodedata.normalize("NFD", latin.translate(_SMALL_CAPITALS)) if not unicodedata.combining(c)
    )
    return _ONE_BY_ONE.sub(lambda spelt: re.sub(r"[ ._*·|-]", "", spelt[0]), bare)


def _mixes_scripts(text: str) -> bool:
    return not text.isascii() and any(
        len({script for c in word if (script := _script(c))}) > 1 for word in _WORD.findall(text) if not word.isascii()
    )


def _script(character: str) -> str:
    """Return the script of a letter, of those whose letters look alike."""
    name = unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""
    return name if name in ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE") else ""


@cache
def _words() -> _Words:
    file = load_prompt("suspicious", SuspiciousFile)
    return _Words(_any(file.phrases), _any(file.verbs, begin=True), _any(file.objects, begin=True), file.near)


def _any(words: Sequence[str], *, begin: bool = False) -> re.Pattern[str]:
    spaced = [re.escape(_form(word)) for word in words if _has_spaces(word)]
    others = [re.escape(_form(word)) for word in words if not _has_spaces(word)]
    start = r"(?<!\w)" if begin else ""
    groups = [f"{start}(?:{'|'.join(spaced)})", *([f"(?:{'|'.join(others)})"] if others else [])]
    return re.compile("|".join(groups))


def _form(word: str) -> str:
    return word.casefold()


def _has_spaces(word: str) -> bool:
    """Tell whether its script puts spaces between words."""
    return not any("\u0e00" <= c <= "\u0e7f" or "\u3040" <= c <= "\u9fff" for c in word)
