"""Token ids of texts for the student, remembered word by word: titles repeat words far more than they repeat titles."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.features import PAD, splits_at_spaces

_ID = np.dtype(np.int32)
_PAD_BYTE = bytes([PAD])
_TOGETHER = 64
_LONGEST = 32  # characters of a word worth remembering
_WORDS = 200_000
"""Words remembered, some 40 MB; when there are more, all are forgotten: the frequent ones are back within a run."""


class Tokens:
    """Gives what `tokenize` gives, several times faster where words have been seen before. Not thread-safe.

    Tokenizing a title costs more than scoring it, most of it for the regular expression and Unicode normal forms. For a
    tokenizer that looks at each word between spaces by itself (those of `train_tokenizer` do) the tokens of a text are
    those of its words, one after the other; any other tokenizer is simply asked.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """`tokenizer` comes from `load_tokenizer` or `train_tokenizer`."""
        self._tokenizer = tokenizer
        self._uncut = Tokenizer.from_str(tokenizer.to_str())
        self._uncut.no_truncation()
        self._by_word = splits_at_spaces(tokenizer)
        truncation = tokenizer.truncation
        self._most = _ID.itemsize * truncation["max_length"] if truncation else None
        self._words: dict[str, bytes] = {"": b""}

    def rows(self, texts: Sequence[str]) -> list[bytes]:
        """Return the token ids of each text, as the bytes of int32."""
        if not self._by_word:
            return self._asked(texts)
        split = [text.replace("\n", " ").split(" ") for text in texts]
        known = [list(map(self._words.get, words)) for words in split]
        unknown = {
            word
            for words, found in zip(split, known, strict=True)
            if None in found
            for word, ids in zip(words, found, strict=True)
            if ids is None
        }
        if unknown:
            new = self._learned(list(unknown))
            known = [
                [new[word] if ids is None else ids for word, ids in zip(words, found, strict=True)]
                if None in found
                else found
                for words, found in zip(split, known, strict=True)
            ]
        most = self._most
        # pyright does not see that no None is left.
        return [b"".join(found)[:most] for found in known]  # pyright: ignore[reportArgumentType, reportCallIssue]

    def _learned(self, words: Sequence[str]) -> dict[str, bytes]:
        new = dict(zip(words, self._asked_together(words), strict=True))
        if len(self._words) + len(new) > _WORDS:
            self._words = {"": b""}
        self._words.update((word, ids) for word, ids in new.items() if len(word) <= _LONGEST)
        return new

    def _asked_together(self, words: Sequence[str]) -> list[bytes]:
        """Ask for many words as a few texts, which costs half; where a token begins says whose it is."""
        rows: list[bytes] = []
        groups = [words[at : at + _TOGETHER] for at in range(0, len(words), _TOGETHER)]
        for group, encoding in zip(groups, self._uncut.encode_batch([" ".join(one) for one in groups]), strict=True):
            ends = np.cumsum([len(word) + 1 for word in group])
            begins = np.fromiter((start for start, _ in encoding.offsets), np.int64)
            last = np.searchsorted(begins, ends).tolist()
            ids = np.array(encoding.ids, _ID)
            rows += [ids[a:b].tobytes() for a, b in zip([0, *last], last, strict=False)]
        return rows

    def _asked(self, texts: Sequence[str]) -> list[bytes]:
        encoded = [one.ids for one in self._tokenizer.encode_batch_fast(list(texts))]
        whole = np.fromiter(chain.from_iterable(encoded), _ID).tobytes()
        rows: list[bytes] = []
        start = 0
        for ids in encoded:
            end = start + _ID.itemsize * len(ids)
            rows.append(whole[start:end])
            start = end
        return rows


def padded(rows: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and mask of rows, as `features.pad` does of lists."""
    size = _ID.itemsize
    width = max(size, max(map(len, rows)))
    ids = np.frombuffer(b"".join([row.ljust(width, _PAD_BYTE) for row in rows]), _ID).reshape(len(rows), -1)
    lengths = np.fromiter(map(len, rows), np.int64, len(rows)) // size
    mask = np.arange(width // size) < lengths[:, None]
    return ids.astype(np.int64), mask.astype(np.int64)
