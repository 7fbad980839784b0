"""Text as a reader sees it: without what is invisible, and folded for comparison."""

import re
import unicodedata

# Joiners are invisible as well, but emoji and several scripts can't be written without them.
_JOINERS = "\u200c\u200d"
_FIRST_AFTER_CYRILLIC = "\u0530"
# Emoji are told to be coloured or not; all other variation selectors can carry hidden bytes.
_EMOJI_STYLES = "\ufe0e\ufe0f"
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef\u180b-\u180d]")
# Letters and symbols by category, blank to the eye.
_BLANKS = "\u115f\u1160\u3164\uffa0\u2800"
_MARKS_IN_A_ROW = 4

_TYPOGRAPHY = str.maketrans(
    {**dict.fromkeys("‘’‚‛′`´", "'"), **dict.fromkeys("“”„‟″«»", '"'), **dict.fromkeys("‐‑‒–—―−", "-")}
)
_LOOK_LIKE_LESS = "＜﹤‹〈⟨〈˂ᐸ❮"
_LOOK_LIKE_MORE = "＞﹥›〉⟩〉˃ᐳ❯"
_BRACKETS = str.maketrans({**dict.fromkeys(_LOOK_LIKE_LESS, "<"), **dict.fromkeys(_LOOK_LIKE_MORE, ">")})


def clean(text: str) -> str:
    """Return `text` as one line, without what a reader can't see: control, bidi, tags, selectors, piles of marks."""
    return _seen(text)[0]


def hides(text: str) -> bool:
    """Tell whether `clean` takes out anything but white space."""
    return _seen(text)[1]


def folded(text: str) -> str:
    """Return `text` for comparison: case, width, typography and lookalikes of brackets don't count."""
    plain = unicodedata.normalize("NFKC", text).translate(_BRACKETS).translate(_TYPOGRAPHY)
    bare = _SELECTORS.sub("", plain.replace(_JOINERS[0], "").replace(_JOINERS[1], ""))
    return " ".join(bare.casefold().split())


def bracketed(text: str) -> str:
    """Return `text` with lookalikes of < and > as these."""
    return text.translate(_BRACKETS)


def _seen(text: str) -> tuple[str, bool]:
    if text.isascii() and text.isprintable():
        return " ".join(text.split()), False
    kept: list[str] = []
    marks, hidden = 0, False
    for at, character in enumerate(text):
        before = kept[-1] if kept else " "
        if character.isspace():
            kept.append(" ")
            continue
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if character in _JOINERS:
            after = text[at + 1 : at + 2]
            visible = before not in _JOINERS and before > _FIRST_AFTER_CYRILLIC and after > _FIRST_AFTER_CYRILLIC
        elif _SELECTORS.match(character):
            visible = character in _EMOJI_STYLES and not before.isalpha() and not before.isspace() and marks == 1
        else:
            visible = category not in ("Cc", "Cf", "Cs", "Co") and marks <= _MARKS_IN_A_ROW
            if character in _BLANKS:
                visible = False
        if visible:
            kept.append(character)
        else:
            hidden = True
    return " ".join("".join(kept).split()), hidden
