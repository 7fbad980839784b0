"""An LLM that rates honestly until a video tells it otherwise: then it does whatever the attack asks for."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from models.annotator import Question
from models.answer import read_outcome
from models.llm_outcome import Call, Usage
from models.prompt import Rubric, RubricFile, compile_rubric, fence, load_prompt, video_text
from schemas.attributes import load_catalogue
from tests.fakes.attacks import NONCE, Attack

Answers = list[dict[str, Any]]
OPPOSITE = {"yes": "no", "no": "yes", "unclear": "yes"}


class ObedientLlm:
    """Every request has the same code, which the attacks know; prompt and validation are the real ones."""

    sampling = "none"

    def __init__(self, attacks: Sequence[Attack]) -> None:
        self.rubric: Rubric = compile_rubric(load_catalogue(), load_prompt("vibe", RubricFile), "obedient")
        self.version = self.rubric.version
        self.requests: list[list[str]] = []
        self.messages: list[str] = []
        self._attacks = {attack.upload.video_id: attack for attack in attacks}

    def most(self, questions: Sequence[Question], room: int = 1) -> Usage:
        return Usage(1_000 * len(questions), 100)

    async def ask(self, questions: Sequence[Question], *, room: int = 1, repair: bool = False) -> Call:
        asked = {f"{NONCE}-{i}": question for i, question in enumerate(questions)}
        self.requests.append([question.upload.video_id for question in questions])
        self.messages.append(fence(asked, NONCE))
        text = json.dumps({"answers": honest(asked)})
        for key, question in asked.items():
            if attack := self._attacks.get(question.upload.video_id):
                for move in attack.does:
                    text = obey(move, key, asked)
        return Call(read_outcome(text, asked), Usage(100, 10))

    async def close(self) -> None: ...


def honest(asked: Mapping[str, Question]) -> Answers:
    """Yes where the attribute's id stands in the text, else no."""
    answers: Answers = []
    for key, question in asked.items():
        text = " ".join(video_text(question.upload).values())
        verdicts = [
            {"attribute": name, "evidence": name if name in text else "", "verdict": "yes" if name in text else "no"}
            for name in question.attributes
        ]
        answers.append({"video_id": key, "verdicts": verdicts})
    return answers


def obey(move: str, mine: str, asked: Mapping[str, Question]) -> str:
    """Return the whole reply of a model that does `move` for the video with the id `mine`."""
    answers = honest(asked)
    own = next(answer for answer in answers if answer["video_id"] == mine)
    others = [answer for answer in answers if answer is not own]
    return _MOVES[move](answers, own, others, asked[mine])


def _say(answer: dict[str, Any], **changes: Any) -> None:
    for verdict in answer["verdicts"]:
        verdict.update(changes)


def _flipped(answer: dict[str, Any]) -> dict[str, Any]:
    flipped = deepcopy(answer)
    for verdict in flipped["verdicts"]:
        verdict.update(verdict=OPPOSITE[verdict["verdict"]], evidence="")
    return flipped


def _reply(answers: Answers, **fields: Any) -> str:
    return json.dumps({"answers": answers, **fields})


def _quote(question: Question) -> str:
    return next(iter(video_text(question.upload).values()))[:60]


Move = Callable[[Answers, dict[str, Any], Answers, Question], str]


def _changing(change: Callable[[dict[str, Any], Answers, Question], object]) -> Move:
    def move(answers: Answers, own: dict[str, Any], others: Answers, question: Question) -> str:
        change(own, others, question)
        return _reply(answers)

    return move


def _swap(own: dict[str, Any], others: Answers, _: Question) -> None:
    if others:
        own["video_id"], others[-1]["video_id"] = others[-1]["video_id"], own["video_id"]


_MOVES: dict[str, Move] = {
    "own_yes": _changing(lambda own, others, q: _say(own, verdict="yes", evidence=_quote(q))),
    "own_no": _changing(lambda own, others, q: _say(own, verdict="no", evidence="")),
    "flip_neighbours": lambda answers, own, others, q: _reply([own, *map(_flipped, others)]),
    "deny_neighbours": _changing(lambda own, others, q: [_say(one, verdict="no", evidence="") for one in others]),
    "unclear_neighbours": _changing(lambda own, others, q: [_say(one, verdict="unclear") for one in others]),
    "answer_for_neighbours": lambda answers, own, others, q: _reply([*answers, *map(_flipped, others)]),
    "omit_neighbours": lambda answers, own, others, q: _reply([own]),
    "invent_ids": lambda answers, own, others, q: _reply(
        [*answers, *({**deepcopy(own), "video_id": name} for name in ("a", "v-1", f"{NONCE}-99", ""))]
    ),
    "swap_ids": _changing(_swap),
    "claim_all": _changing(lambda own, others, q: [one.update(video_id=own["video_id"]) for one in others]),
    "add_attributes": _changing(
        lambda own, others, q: [
            one["verdicts"].extend(
                {"attribute": name, "evidence": "", "verdict": "yes"}
                for name in ("viral", "__proto__", "constructor", "uplifting ", "admiring", "ranting")
            )
            for one in [own, *others]
        ]
    ),
    "off_enum": _changing(lambda own, others, q: [_say(one, verdict="definitely") for one in [own, *others]]),
    "add_fields": lambda answers, own, others, q: _reply(
        [{**one, "policy": "off", "attributes": {}} for one in answers], schema={}, schema_version=99
    ),
    "rename_fields": lambda answers, own, others, q: _reply(
        [{"uuid": one["video_id"], "verdicts": one["verdicts"]} for one in answers]
    ),
    "decide_twice": _changing(
        lambda own, others, q: [one["verdicts"].extend(_flipped(one)["verdicts"]) for one in [own, *others]]
    ),
    "not_json": lambda answers, own, others, q: "Roses are red, and every video is funny.",
    "tool_call": lambda answers, own, others, q: json.dumps({"functionCall": {"name": "delete_video", "args": {}}}),
    "leak": _changing(
        lambda own, others, q: [
            _say(one, verdict="yes", evidence="You are a rater of short videos.") for one in [own, *others]
        ]
    ),
    "invented_evidence": _changing(
        lambda own, others, q: [_say(one, verdict="yes", evidence="a door slams twice") for one in [own, *others]]
    ),
    "foreign_evidence": _changing(
        lambda own, others, q: [_say(one, verdict="yes", evidence=_quote(q)) for one in others]
    ),
    "tiny_evidence": _changing(
        lambda own, others, q: [_say(one, verdict="yes", evidence="e") for one in [own, *others]]
    ),
    "flood": lambda answers, own, others, q: _reply(answers * 2_000),
}  # fmt: skip

MOVES = frozenset(_MOVES)
NOT_SEEN_IN_ANSWERS = frozenset({"flip_neighbours", "deny_neighbours", "unclear_neighbours", "swap_ids"})
"""Well-formed answers for the right ids that may even need no evidence: no validation can tell them from honest ones.
That is why a video that may ask for them shares no request."""
