"""Remembered tokens are those that the tokenizer gives."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from models.bundle import default_bundle, load_bundle
from models.features import load_tokenizer, pad, splits_at_spaces, tokenize
from models.tokens import Tokens, padded

SHIPPED = load_tokenizer(load_bundle(default_bundle()).tokenizer, max_tokens=16)
REMEMBERING = Tokens(SHIPPED)
# What folding changes, joins, removes or splits, with spaces of all kinds; and any character at all.
AWKWARD = st.sampled_from("aZé ß\N{COMBINING ACUTE ACCENT}İΣ¨½ﬁ'’猫ไ😂️_7.\t\n\r\u00a0\u3000\u2028\x1c\x85\x00  ")
WORDS = st.sampled_from(["grandma", "Learns", "supercalifragilistic", "don't", "x" * 50, "10:30", "#tag"])
TEXT = st.lists(st.one_of(AWKWARD, WORDS, st.characters(codec="utf-8"), st.just(" ")), max_size=40).map("".join)


def numbers(rows: list[bytes]) -> list[list[int]]:
    return [np.frombuffer(row, np.int32).tolist() for row in rows]


@given(st.lists(TEXT, min_size=1, max_size=8))
@example(["e \N{COMBINING ACUTE ACCENT}e", "\N{COMBINING ACUTE ACCENT}", " ", "", "a\n\nb"])
@settings(max_examples=400, deadline=None)
def test_remembered_tokens_are_those_of_the_tokenizer(texts: list[str]):
    expected = tokenize(SHIPPED, texts)
    assert numbers(REMEMBERING.rows(texts)) == expected
    assert numbers(REMEMBERING.rows(texts)) == expected, "the second time from memory"


def test_a_full_memory_starts_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("models.tokens._WORDS", 3)
    tokens = Tokens(SHIPPED)
    texts = [f"word{i} grandma {i}" for i in range(50)]
    assert [numbers(tokens.rows([text]))[0] for text in texts] == tokenize(SHIPPED, texts)


def test_a_tokenizer_that_adds_tokens_at_the_ends_is_asked_for_every_text():
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "[CLS]": 1, "a": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A", special_tokens=[("[CLS]", 1)])
    assert not splits_at_spaces(tokenizer)
    assert numbers(Tokens(tokenizer).rows(["a a", ""])) == [[1, 2, 2], [1]]


def test_padding_bytes_gives_what_padding_lists_gives():
    rows = [[5, 6, 7], [], [8]]
    as_bytes = [np.array(row, np.int32).tobytes() for row in rows]
    for ours, theirs in zip(padded(as_bytes), pad(rows), strict=True):
        assert ours.tolist() == theirs.tolist()
        assert ours.dtype == theirs.dtype
    assert padded([b""])[1].tolist() == [[0]]
