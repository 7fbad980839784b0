"""What the student reads of a video: one text, then token ids."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from schemas.events import VideoUpload

PAD = 0
MAX_CHARACTERS = 1_000
"""More than 128 tokens hold; tokenizing beyond would be thrown away."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that put no spaces between words; each of their characters is a token."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+")


def upload_text(upload: VideoUpload) -> str:
    """Join title, hashtags as words, description and transcript, at most `MAX_CHARACTERS`.

    Hashtags come before the description, so that a long description does not cut them off.
    """
    hashtags = " ".join(_CAMEL.sub(" ", tag.lstrip("#")) for tag in upload.hashtags)
    parts = (upload.title, hashtags, upload.description[:MAX_CHARACTERS], upload.transcript[:MAX_CHARACTERS])
    return "\n".join(part for part in parts if part)[:MAX_CHARACTERS]


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Make a WordPiece tokenizer of the texts' frequent words, whole (the linear path needs them), and word endings.

    A word outside the vocabulary becomes its longest known beginning and endings, down to letters. Every symbol, emoji
    included, is a token of its own, and so is every character of a script that writes without spaces; case, accents and
    width are folded. The pieces are counted here because the trainers of `tokenizers` break ties by hash, so that no
    two runs agree.
    """
    normalizer, splitter = _normalizer(), _splitter()
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = Counter(letter for word in words for letter in word)
    endings = Counter(f"##{word[-n:]}" for word in words for n in range(2, 7) if len(word) > n)
    pieces = dict.fromkeys(["[PAD]", "[UNK]"])
    pieces |= dict.fromkeys(piece for letter in _frequent(letters)[:400] for piece in (letter, f"##{letter}"))
    pieces |= dict.fromkeys(_frequent(endings)[: vocabulary // 10])
    pieces |= dict.fromkeys(_frequent(words))
    ids = {piece: i for i, piece in enumerate(list(pieces)[:vocabulary])}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=40))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    return tokenizer


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence(
        [
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.NFC(),
            normalizers.Lowercase(),
            normalizers.Replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"),
        ]
    )


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+|[^\w\s]"), "removed", invert=True)


def splits_at_spaces(tokenizer: Tokenizer) -> bool:
    """Tell whether a text's tokens are those of its words between spaces, one after the other.

    That holds for the tokenizers of `train_tokenizer`: nothing they fold or split reaches over a space, and they add
    nothing at the ends. Of others it is not known.
    """
    own = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]", max_input_chars_per_word=40))
    own.normalizer, own.pre_tokenizer = _normalizer(), _splitter()
    ours, theirs = json.loads(own.to_str()), json.loads(tokenizer.to_str())
    for one in (ours, theirs):
        del one["model"]["vocab"], one["truncation"]
    return ours == theirs


def _frequent(counts: Counter[str]) -> list[str]:
    """Return what occurs at least twice, most frequent first."""
    return sorted((piece for piece, n in counts.items() if n > 1), key=lambda piece: (-counts[piece], piece))


def load_tokenizer(content: bytes, max_tokens: int) -> Tokenizer:
    """Return the tokenizer in a tokenizer.json, cutting texts after `max_tokens`."""
    tokenizer = Tokenizer.from_buffer(content)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text; an empty text has none but what the tokenizer's template adds."""
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def pad(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and mask, both [n, longest], at least one column wide; padding is id 0 under mask 0."""
    width = max(1, max(map(len, rows)))
    ids = np.full((len(rows), width), PAD, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask
