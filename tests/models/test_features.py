import pytest

from models.bundle import default_bundle, load_bundle
from models.features import MAX_CHARACTERS, load_tokenizer, pad, tokenize, train_tokenizer, upload_text
from schemas.events import VideoUpload


def upload(**fields: object) -> VideoUpload:
    return VideoUpload(schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=0, **fields)


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("#BestFriendsForever", "Best Friends Forever"),
        ("catsOfNYCToday", "cats Of NYC Today"),
        ("slow_living", "slow living"),
        ("top10Fails", "top10 Fails"),
        ("#猫", "猫"),
    ],
)
def test_a_hashtag_becomes_words(tag: str, words: str):
    assert upload_text(upload(hashtags=(tag,))) == words


def test_all_text_of_an_upload_is_read_and_hashtags_stand_before_the_description():
    text = upload_text(upload(title="One", description="three", hashtags=("#two",), transcript="four"))
    assert text.split() == ["One", "two", "three", "four"]


def test_an_upload_without_words_is_an_empty_text():
    assert upload_text(upload()) == ""


def test_a_long_description_keeps_title_and_hashtags_and_is_cut():
    text = upload_text(upload(title="Title", description="d" * 5_000, hashtags=("#tag",), transcript="t" * 50_000))
    assert text.startswith("Title\ntag\nd")
    assert len(text) == MAX_CHARACTERS


def test_a_trained_tokenizer_keeps_frequent_words_whole_and_folds_case_and_accents():
    tokenizer = train_tokenizer(["the café sings", "The Cafe sings"] * 5, vocabulary=200)
    assert tokenizer.encode("CAFÉ sings").tokens == ["cafe", "sings"]


def test_the_shipped_tokenizer_reads_an_emoji_beside_a_word_as_a_token_of_its_own():
    tokenizer = load_tokenizer(load_bundle(default_bundle()).tokenizer, max_tokens=8)
    assert tokenizer.encode("love😂").tokens == ["love", "😂"]


def test_texts_are_cut_after_max_tokens_and_an_empty_one_has_no_tokens():
    tokenizer = load_tokenizer(load_bundle(default_bundle()).tokenizer, max_tokens=8)
    assert [len(row) for row in tokenize(tokenizer, ["", "one", "word " * 50])] == [0, 1, 8]


def test_padding_is_masked_and_at_least_one_token_wide():
    ids, mask = pad([[5, 6], [7]])
    assert ids.tolist() == [[5, 6], [7, 0]]
    assert mask.tolist() == [[1, 1], [1, 0]]
    assert pad([[]])[1].tolist() == [[0]]
