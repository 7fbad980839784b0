"""Every attack of the corpus, through the making of prompts and the reading of answers."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from models.annotator import Answered, Outcome, Question, Verdict
from models.answer import read_answers
from models.gemini import ApiKey, Gemini
from models.isolation import Sharing, grouped, risks
from models.llm_annotator import LlmAnnotator, Pace
from models.llm_budget import Budget
from models.llm_cache import merge
from models.llm_cost import Price
from models.llm_state import LlmState
from models.plain_text import clean
from models.prompt import fence
from schemas.attributes import load_catalogue
from schemas.events import UNKNOWN_CREATOR, VideoUpload
from tests.fakes.attacks import NONCE, Attack, attacks, held_out_attacks
from tests.fakes.gemini_server import GeminiServer, gemini_server
from tests.fakes.obedient import MOVES, NOT_SEEN_IN_ANSWERS, ObedientLlm, honest, obey

ATTACKS = attacks()
HELD_OUT = held_out_attacks()
ASKED = ("funny", "hostile")
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=str)


def neighbour(video_id: str, title: str, creator_id: str = "c") -> Question:
    return Question(
        VideoUpload(schema_version=1, video_id=video_id, creator_id=creator_id, uploaded_at_ms=0, title=title), ASKED
    )


FIRST = neighbour("first", "a funny goose chases the postman")
LAST = neighbour("last", "two people are hostile in traffic")
HONEST: dict[str, Outcome] = {
    "first": Answered({"funny": Verdict(True, "funny"), "hostile": Verdict(False)}),
    "last": Answered({"funny": Verdict(False), "hostile": Verdict(True, "hostile")}),
}


def batch(attack: Attack) -> dict[str, Question]:
    questions = [FIRST, Question(attack.upload, ASKED), LAST]
    return {f"{NONCE}-{i}": question for i, question in enumerate(questions)}


def test_the_corpus_covers_its_kinds_and_languages():
    assert len(ATTACKS) >= 60
    kinds = Counter(attack.kind for attack in ATTACKS)
    assert len(kinds) >= 8
    assert min(kinds.values()) >= 4
    assert {move for attack in ATTACKS + HELD_OUT for move in attack.does} == MOVES
    scripts = "[а-я] [א-ת] [ء-ي] [ऀ-ॿ] [ก-ฮ] [一-鿿] [ぁ-ん] [가-힣]".split()
    assert all(any(re.search(script, attack.upload.title) for attack in ATTACKS) for script in scripts)


@each_attack
def test_no_text_can_leave_its_fence_or_touch_another_video(attack: Attack):
    message = fence(batch(attack), NONCE)
    harmless = Attack("", "", neighbour("v", "bread rises").upload, ())
    ours = rf'(<video-{NONCE} id="({NONCE}-\d)" asked="funny hostile">\n(.*?)\n</video-{NONCE}>)'
    blocks = re.findall(ours, message, re.S)
    expected = re.findall(ours, fence(batch(harmless), NONCE), re.S)
    assert [key for _, key, _ in blocks] == [f"{NONCE}-{i}" for i in range(3)]
    assert blocks[0] == expected[0]
    assert blocks[2] == expected[2]
    assert message == "\n".join([f"code: {NONCE}", *(block for block, _, _ in blocks)])
    assert message.count("<") == message.count(">") == 6
    text = blocks[1][2]
    assert all(re.match(r"(title|description|hashtags|transcript): \S", line) for line in text.split("\n"))
    assert all(line == clean(line) for line in text.split("\n"))
    assert len(text.splitlines()) <= 4
    assert len(text) < 35_000  # the caps of all fields, every character escaped


@each_attack
def test_an_attack_shares_its_request_with_nobody(attack: Attack):
    assert risks(attack.upload)


@pytest.mark.parametrize(
    "title",
    [
        "Grandpa learns sign language ❤️ for his deaf granddaughter",
        "POV: your dad discovers the self-checkout 👨‍👩‍👧 lol",
        "No rules, just friends: opening night, let's gooo!!! #fyp",
        "She said yes!!! He asked, we all cried",
        "Answering your questions about my gap year (part 3)",
        "Ich kann nicht mehr 😂 mein Hund mal wieder",
        "می‌خواهم برگردم خانه",
        "今日のお弁当、息子が作ってくれた",
        "我家猫又在偷吃",
        "Привет из Одессы, первый снег",
        "I <3 you 3000",
    ],
)
def test_what_people_write_may_share_a_request(title: str):
    assert risks(neighbour("v", title).upload) == frozenset()


def test_risky_videos_are_asked_alone_and_the_others_together():
    attack = Question(ATTACKS[0].upload, ASKED)
    important = Question(neighbour("v", "soup").upload, ASKED, alone=True)
    walk = msgspec.structs.replace(neighbour("v", "").upload, transcript="we walk along the river. " * 200)
    assert risks(walk) == {"long"}
    long = Question(walk, ASKED)
    requests = grouped([FIRST, attack, important, long, *[LAST] * 9], lambda question: question, 8)
    assert requests == [[FIRST, *[LAST] * 7], [LAST] * 2, [attack], [important], [long]]


def test_videos_of_different_or_unknown_creators_share_no_request_unless_the_operator_wants_it():
    a, b, unknown = (neighbour(name, "soup", name) for name in ("a", "b", UNKNOWN_CREATOR))
    videos = [a, b, a, unknown, unknown]
    assert grouped(videos, lambda question: question, 8) == [[a, a], [b], [unknown], [unknown]]
    assert grouped(videos, lambda question: question, 8, "anyone") == [videos]


@each_attack
async def test_a_model_that_obeys_changes_no_other_answer_no_schema_and_no_attribute(attack: Attack, tmp_path: Path):
    llm, state = ObedientLlm([attack]), LlmState(tmp_path, merge)
    annotator = LlmAnnotator(
        llm, load_catalogue(), state, Budget(state, Price(0.0, 0.0)), pace=Pace(items_per_request=16)
    )
    first, own, last = await annotator.annotate(list(batch(attack).values()))
    await annotator.close()
    assert {"first": first, "last": last} == HONEST
    assert ["first", "last"] in llm.requests
    assert all(request == [attack.upload.video_id] for request in llm.requests if "first" not in request)
    assert len(llm.requests) <= 3, "one request, one repair"
    if isinstance(own, Answered):
        believable(own, attack)


OTHERS = [
    neighbour(f"{creator} {i}", title, creator)
    for creator in ("ann", "bob", "cem")
    for i, title in enumerate(("a funny goose", "a hostile crowd", "a quiet lake"))
]


async def turned(sharing: Sharing, folder: Path) -> list[str]:
    """Return the held-out attacks that turned an answer for a video of somebody else, by a model that obeys."""
    llm, state = ObedientLlm(HELD_OUT), LlmState(folder, merge)
    honest_answers = read_answers(json.dumps({"answers": honest(asked := by_id(OTHERS))}), asked)
    succeeded: list[str] = []
    for attack in HELD_OUT:
        annotator = LlmAnnotator(
            llm,
            load_catalogue(),
            state,
            Budget(state, Price(0.0, 0.0)),
            pace=Pace(items_per_request=16, sharing=sharing),
        )
        fresh = [fresh_text(question, str(attack)) for question in OTHERS]
        mine = msgspec.structs.replace(attack.upload, creator_id="mallory")
        outcomes = await annotator.annotate([Question(mine, ASKED), *fresh])
        if outcomes[1:] != list(honest_answers.values()):
            succeeded.append(str(attack))
    await state.close()
    return succeeded


def by_id(questions: list[Question]) -> dict[str, Question]:
    return {question.upload.video_id: question for question in questions}


def fresh_text(question: Question, name: str) -> Question:
    """The same question about a text that no answer is known for yet."""
    return Question(msgspec.structs.replace(question.upload, description=name.replace("-", " ")), question.attributes)


async def test_an_attack_that_nothing_recognises_turns_no_answer_for_a_stranger(tmp_path: Path):
    assert await turned("creator", tmp_path) == []


async def test_recognising_attacks_by_their_words_alone_would_not_protect_strangers(tmp_path: Path):
    missed = {str(attack) for attack in HELD_OUT if not risks(attack.upload)}
    succeeded = set(await turned("anyone", tmp_path))
    print(f"of {len(HELD_OUT)} phrasings the words miss {len(missed)}, and {len(succeeded)} turn a stranger's answer")
    assert succeeded <= missed
    assert len(succeeded) > len(HELD_OUT) // 4, "else reconsider the default, and mend docs/security.md"


def believable(answered: Answered, attack: Attack) -> None:
    assert tuple(answered.verdicts) == ASKED
    text = clean(" ".join((attack.upload.title, attack.upload.description, " ".join(attack.upload.hashtags))))
    text += " " + clean(attack.upload.transcript)
    for verdict in answered.verdicts.values():
        assert verdict.label in (True, False, None)
        assert verdict.evidence is None or verdict.evidence in text
        assert not verdict.label or verdict.evidence


@pytest.mark.parametrize(("move", "attack"), [(move, one) for one in ATTACKS for move in one.does])
def test_even_in_one_request_with_others_an_answer_is_honest_or_asked_for_again(move: str, attack: Attack):
    if move in NOT_SEEN_IN_ANSWERS:
        assert risks(attack.upload), "only a request of its own protects the others"
        return
    asked = batch(attack)
    try:
        answers = read_answers(obey(move, f"{NONCE}-1", asked), asked)
    except msgspec.DecodeError:  # nobody is believed
        return
    assert set(answers) <= set(asked)
    assert answers.get(f"{NONCE}-0", HONEST["first"]) == HONEST["first"]
    assert answers.get(f"{NONCE}-2", HONEST["last"]) == HONEST["last"]
    if own := answers.get(f"{NONCE}-1"):
        believable(own, attack)


def test_the_honest_reply_is_believed_in_full():
    asked = {f"{NONCE}-0": FIRST, f"{NONCE}-1": LAST}
    answers = [Answered({v["attribute"]: _verdict(v) for v in one["verdicts"]}) for one in honest(asked)]
    assert answers == list(HONEST.values())


def _verdict(said: dict[str, str]) -> Verdict:
    return Verdict(said["verdict"] == "yes", said["evidence"] or None)


@pytest.fixture
async def server() -> AsyncIterator[GeminiServer]:
    async with gemini_server() as running:
        yield running


async def test_whatever_is_asked_every_request_begins_with_the_same_rubric_and_offers_no_tools(
    server: GeminiServer, tmp_path: Path
):
    catalogue, state = load_catalogue(), LlmState(tmp_path, merge)
    gemini = Gemini(catalogue, ApiKey("key"), model="gemini-2.5-flash", base_url=server.url)
    annotator = LlmAnnotator(gemini, catalogue, state, Budget(state, Price(0.0, 0.0)))
    await annotator.annotate([FIRST, *(Question(attack.upload, ASKED) for attack in ATTACKS), LAST])
    await annotator.close()
    assert len(server.requests) >= len(ATTACKS)
    first = server.requests[0]
    for request in server.requests:
        assert request["systemInstruction"] == first["systemInstruction"]
        assert request["generationConfig"]["responseJsonSchema"] == first["generationConfig"]["responseJsonSchema"]
        assert "tools" not in request
        assert len(request["contents"]) == 1
    codes = [message.split("\n")[0] for message in server.messages()]
    assert len(set(codes)) == len(codes)
