import json

import msgspec
import pytest

from models.annotator import Declined, Question, Verdict
from models.answer import read_answers, unanswerable
from schemas.attributes import load_catalogue
from schemas.events import VideoUpload

TITLE = "Grandpa <3 learns  SIGN language, and that’s ｂｉｇ"


def question(*attributes: str, title: str = TITLE) -> Question:
    return Question(
        VideoUpload(schema_version=1, video_id="v", creator_id="c", uploaded_at_ms=0, title=title), attributes
    )


def said(attribute: str, verdict: str, evidence: str = "") -> dict[str, str]:
    return {"attribute": attribute, "evidence": evidence, "verdict": verdict}


def answers(*items: tuple[str, list[dict[str, str]]]) -> str:
    return json.dumps({"answers": [{"video_id": key, "verdicts": verdicts} for key, verdicts in items]})


def verdict_of(quoted: str, verdict: str = "yes", title: str = TITLE) -> Verdict:
    text = answers(("k", [said("funny", verdict, quoted)]))
    return read_answers(text, {"k": question("funny", title=title)})["k"].verdicts["funny"]


def evidence_of(quoted: str) -> str | None:
    return verdict_of(quoted).evidence


def test_yes_no_and_unclear_become_true_false_and_none():
    text = answers(("k", [said("funny", "yes", "sign"), said("eerie", "no"), said("hyped", "unclear")]))
    answered = read_answers(text, {"k": question("funny", "eerie", "hyped")})["k"]
    assert answered.verdicts == {"funny": Verdict(True, "sign"), "eerie": Verdict(False), "hyped": Verdict(None)}


def test_evidence_is_kept_where_the_video_says_it():
    assert evidence_of("learns sign") == "learns sign"


def test_evidence_quoted_with_escapes_is_kept_unescaped():
    assert evidence_of("Grandpa &lt;3") == "Grandpa <3"


@pytest.mark.parametrize("quoted", ["that's", "BIG", "'learns sign'", "learns SIGN language, and"])
def test_case_width_and_typography_do_not_make_evidence_another(quoted: str):
    assert evidence_of(quoted) == quoted


@pytest.mark.parametrize("quoted", ["he swears", "Grandpa learns", "p", "an"])
def test_a_verdict_whose_evidence_the_video_does_not_say_counts_as_unclear(quoted: str):
    for verdict in ("yes", "no"):
        assert verdict_of(quoted, verdict) == Verdict(None, None, "the LLM's evidence is not in the video's text")


@pytest.mark.parametrize("quoted", ["", "   ", "\u200b"])
def test_a_yes_without_evidence_counts_as_unclear_and_a_no_needs_none(quoted: str):
    assert verdict_of(quoted) == Verdict(None, None, "the LLM said yes and named no evidence")
    assert verdict_of(quoted, "no") == Verdict(False)
    assert verdict_of(quoted, "unclear") == Verdict(None)


@pytest.mark.parametrize(("title", "quoted"), [("哈哈哈", "哈"), ("so 😂", "😂"), ("ok", "ok")])
def test_evidence_may_be_as_short_as_the_script_or_the_video_is(title: str, quoted: str):
    assert verdict_of(quoted, title=title) == Verdict(True, quoted)


def test_with_others_in_the_request_a_video_whose_evidence_is_not_its_own_is_asked_again():
    theirs = question("funny", title="the goose laughs")
    text = answers(("k-0", [said("funny", "yes", "goose laughs")]), ("k-1", [said("funny", "yes", "goose laughs")]))
    assert set(read_answers(text, {"k-0": question("funny"), "k-1": theirs})) == {"k-1"}


def test_ten_thousand_answers_to_one_question_are_not_believed():
    entry = ("k-0", [said("funny", "no")])
    assert read_answers(answers(*[entry] * 10_000), {"k-0": question("funny"), "k-1": question("funny")}) == {}


def test_long_evidence_is_cut_to_what_an_annotation_holds():
    long = "ha " * 400
    text = answers(("k", [said("funny", "yes", long)]))
    asked = Question(msgspec.structs.replace(question().upload, transcript=long), ("funny",))
    evidence = read_answers(text, {"k": asked})["k"].verdicts["funny"].evidence
    assert evidence is not None
    assert len(evidence) == 500


@pytest.mark.parametrize(
    "verdicts",
    [
        [said("funny", "yes")],
        [said("funny", "yes"), said("eerie", "no"), said("eerie", "yes")],
        [],
    ],
    ids=["one missing", "one decided twice", "none"],
)
def test_an_answer_that_does_not_decide_each_asked_attribute_once_is_left_out(verdicts: list[dict[str, str]]):
    assert read_answers(answers(("k", verdicts)), {"k": question("funny", "eerie")}) == {}


def test_attributes_that_were_not_asked_are_ignored():
    text = answers(("k", [said("funny", "no"), said("eerie", "no")]))
    assert set(read_answers(text, {"k": question("funny")})["k"].verdicts) == {"funny"}


def test_an_id_that_was_not_given_out_or_came_twice_is_not_believed():
    funny = [said("funny", "yes", "sign")]
    text = answers(("k-0", funny), ("k-1", funny), ("k-1", [said("funny", "no")]), ("k-9", funny))
    assert set(read_answers(text, {"k-0": question("funny"), "k-1": question("funny")})) == {"k-0"}


@pytest.mark.parametrize(
    "text", ["", "null", "[]", '{"answers": [{"video_id": "k"}]}', answers(("k", [said("funny", "maybe")]))]
)
def test_text_that_breaks_the_schema_is_refused(text: str):
    with pytest.raises(msgspec.DecodeError):
        read_answers(text, {"k": question("funny")})


def test_what_cannot_be_judged_is_not_asked():
    catalogue = load_catalogue()
    assert unanswerable(question("funny"), catalogue) is None
    assert unanswerable(question("funny", "gone"), catalogue) == Declined("not in the catalogue: gone")
    assert unanswerable(question("funny", title="\u200b"), catalogue) == Declined("the video has no text to judge")
