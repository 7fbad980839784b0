"""The annotator for production: an LLM that is expensive, slow and hostile, and must never be in the way.

Each question goes: known answer, or one that is under way -> circuit breaker -> is it worth its price, is there money
-> a place among the requests at once -> requests a minute -> tokens a minute -> the request -> its price and its
answer are kept, in one transaction.
"""

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from models.annotator import Declined, Outcome, Postponed, Question
from models.answer import unanswerable
from models.isolation import Sharing, grouped
from models.llm_breaker import Breaker
from models.llm_budget import Budget, Reservation
from models.llm_cache import content_key, keep, recall
from models.llm_limits import Concurrency, RateLimit, Window
from models.llm_outcome import Call, Llm, Park, Permanent, Replied, RequestOutcome, Retry, Usage
from models.llm_state import LlmMemory
from monitoring import metrics
from schemas.annotation import AnnotatorVersion
from schemas.attributes import Catalogue
from schemas.errors import AnnotatorUnavailable
from schemas.events import VideoUpload

# A text that no service has a reason to refuse: whether it can be asked at all.
_PLAIN = VideoUpload(schema_version=1, video_id="plain", creator_id="plain", uploaded_at_ms=0, title="A kettle boils.")

_BROKE = Postponed("the budget for the LLM is spent")
_NOT_WORTH_IT = Postponed("the budget for the LLM goes to videos where it changes more")


class _OpenedMeanwhile(Exception):
    """The breaker opened while a request waited for its turn."""


@dataclass(frozen=True)
class Pace:
    """How hard an LLM is tried: the limits are this worker's alone, though the quota may be everybody's."""

    requests_per_minute: float = math.inf
    tokens_per_minute: float = math.inf
    concurrency: int = 16
    items_per_request: int = 8
    sharing: Sharing = "creator"
    tries: int = 4
    tries_at_limit: int = 8
    first_pause_s: float = 0.5
    most_pause_s: float = 20.0


class RateLimits(NamedTuple):
    """Of requests and of input tokens."""

    requests: RateLimit
    tokens: RateLimit


class LlmAnnotator:
    """Asks about several videos in one request; takes over `llm` and `state`. See the module for the order of things.

    A request that fails as a whole is asked again video by video, so that no video can take others with it. A video
    that keeps failing while others succeed is postponed. If the service is gone, `annotate` raises; what was answered
    until then is kept.
    """

    def __init__(
        self,
        llm: Llm,
        catalogue: Catalogue,
        state: LlmMemory,
        budget: Budget,
        *,
        pace: Pace | None = None,
        limits: RateLimits | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        """`limits` takes the place of this worker's own, where several share a quota."""
        self._llm = llm
        self._catalogue = catalogue
        self._state = state
        self._budget = budget
        self._pace = pace or Pace()
        self._breaker = breaker or Breaker()
        self._places = Concurrency(self._pace.concurrency)
        self._requests, self._tokens = limits or RateLimits(
            Window(self._pace.requests_per_minute), Window(self._pace.tokens_per_minute)
        )
        self._asking: dict[tuple[bytes, tuple[str, ...]], asyncio.Future[Outcome]] = {}
        self._accepted = False

    @property
    def version(self) -> AnnotatorVersion:
        """The model's and the prompt's."""
        return self._llm.version

    async def annotate(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Return one outcome per question, in order.

        Raises:
            AnnotatorUnavailable: the LLM can't be asked now, or not with this key, quota or model.

        """
        outcomes: dict[int, Outcome] = {}
        keys: dict[int, bytes] = {}
        for i, question in enumerate(questions):
            if declined := unanswerable(question, self._catalogue):
                outcomes[i] = declined
            else:
                keys[i] = content_key(question, self._llm)
        known = await self._state.look_up(list(set(keys.values())))
        waiting: dict[int, asyncio.Future[Outcome]] = {}
        fresh: list[tuple[bytes, Question]] = []
        for i, key in keys.items():
            question = questions[i]
            if key in known and (kept := recall(known[key], question)):
                outcomes[i] = kept
                metrics.LLM_LOOKUPS.labels("known").inc()
                continue
            same = (key, question.attributes)
            if same in self._asking:
                metrics.LLM_LOOKUPS.labels("under_way").inc()
            else:
                self._asking[same] = asyncio.get_running_loop().create_future()
                fresh.append((key, question))
                metrics.LLM_LOOKUPS.labels("to_ask").inc()
            waiting[i] = self._asking[same]
        await self._ask_all(fresh)
        # One failure is raised when all have ended: what is paid for is kept.
        ended = await asyncio.gather(*waiting.values(), return_exceptions=True)
        for i, outcome in zip(waiting, ended, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            outcomes[i] = outcome
        return [outcomes[i] for i in range(len(questions))]

    async def close(self) -> None:
        """Close connections and files; the annotator can't be used afterwards."""
        await self._breaker.close()
        await self._llm.close()
        await self._state.close()

    async def _ask_all(self, fresh: Sequence[tuple[bytes, Question]]) -> None:
        worth: list[tuple[bytes, Question]] = []
        for key, question in fresh:
            if self._worth(question):
                worth.append((key, question))
            else:
                self._end(key, question, _NOT_WORTH_IT)
                metrics.LLM_POSTPONED.labels("pacing").inc()
        chunks = grouped(worth, lambda asked: asked[1], self._pace.items_per_request, self._pace.sharing)
        await asyncio.gather(*(self._ask_chunk(chunk) for chunk in chunks))

    def _worth(self, question: Question) -> bool:
        likely = self._budget.estimate.likely(self._llm.most([question]))
        if self._pace.sharing == "anyone" and not question.alone:
            likely = Usage(round(likely.input_tokens / self._pace.items_per_request), likely.output_tokens)
        return self._budget.pacing.worth(question.gain, self._budget.price.usd(likely))

    def _end(self, key: bytes, question: Question, outcome: Outcome | BaseException) -> None:
        future = self._asking.pop((key, question.attributes))
        if future.done():
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
            future.exception()  # whoever waits will see it; nobody may be waiting any more
        else:
            future.set_result(outcome)

    async def _ask_chunk(self, chunk: Sequence[tuple[bytes, Question]]) -> None:
        try:
            outcomes = await self._ask(chunk)
        except BaseException as error:
            failure = AnnotatorUnavailable("stopped") if isinstance(error, asyncio.CancelledError) else error
            for key, question in chunk:
                self._end(key, question, failure)
            if not isinstance(error, Exception):
                raise
            return
        for (key, question), outcome in zip(chunk, outcomes, strict=True):
            self._end(key, question, outcome)

    async def _ask(self, chunk: Sequence[tuple[bytes, Question]]) -> Sequence[Outcome]:
        if len(chunk) == 1:
            return [await self._ask_alone(*chunk[0])]
        reply = await self._try([question for _, question in chunk], [key for key, _ in chunk])
        if isinstance(reply, Postponed):
            return [reply] * len(chunk)
        answers = reply.answers if isinstance(reply, Replied) else {}
        left = [i for i in range(len(chunk)) if i not in answers]
        last = isinstance(reply, Replied)  # they had their try; a request that failed says nothing about each of them
        asked = await asyncio.gather(*(self._ask_alone(*chunk[i], last=last) for i in left))
        alone = dict(zip(left, asked, strict=True))
        return [answers[i] if i in answers else alone[i] for i in range(len(chunk))]

    async def _ask_alone(self, key: bytes, question: Question, *, last: bool = False) -> Outcome:
        successes = self._breaker.successes
        reply = await self._try([question], [key], room=2 if last else 1)
        if not last and isinstance(reply, Retry) and reply.cause in ("cut_off", "malformed", "missing"):
            room = 2 if reply.cause == "cut_off" else 1
            reply = await self._try([question], [key], room=room, repair=reply.cause != "cut_off")
        match reply:
            case Replied(answers):
                return answers[0]
            case Postponed():
                return reply
            case Permanent(cause, reason):
                if cause == "rejected" and not self._accepted and not await self._plain(question):
                    raise self._stopped(Park("request", f"{reason}; so is a plain text: check the model", 300.0))
                return await self._decline(key, reason)
            case Retry(cause="cut_off" | "malformed" | "missing", reason=reason):
                return await self._decline(key, reason)
            case Retry(reason=reason):
                if self._breaker.successes == successes and not await self._plain(question):
                    raise AnnotatorUnavailable(reason)
                metrics.LLM_POSTPONED.labels("failed").inc()
                return Postponed(f"the LLM failed {self._pace.tries} times on this video alone: {reason}"[:500])

    async def _decline(self, key: bytes, reason: str) -> Declined:
        declined = Declined(reason)
        await self._state.keep({key: keep(declined)})
        return declined

    async def _plain(self, question: Question) -> bool:
        """Tell whether the service answers a question about a plain text."""
        call = await self._call([Question(_PLAIN, question.attributes)], [])
        if call is not None and isinstance(call.outcome, Park):
            self._stopped(call.outcome)
        return call is None or isinstance(call.outcome, Replied)

    async def _try(
        self, questions: Sequence[Question], keys: Sequence[bytes], *, room: int = 1, repair: bool = False
    ) -> Replied | Retry | Permanent | Postponed:
        """Make a request until it ends; the last Retry when the tries are used up.

        Raises:
            AnnotatorUnavailable: the service is gone, or wants to be left alone for long.

        """
        failures = refusals = 0
        while True:
            await self._breaker.ready(lambda: self._plain(questions[0]))
            try:
                call = await self._call(questions, keys, room=room, repair=repair)
            except _OpenedMeanwhile:
                continue
            if call is None:
                metrics.LLM_POSTPONED.labels("budget").inc(len(questions))
                return _BROKE
            match call.outcome:
                case Park() as park:
                    raise self._stopped(park)
                case Retry(cause="rate_limit", reason=reason):
                    refusals += 1
                    if refusals >= self._pace.tries_at_limit:
                        raise AnnotatorUnavailable(reason)
                case Retry(cause="overloaded" | "timeout" | "network" | "unreadable", after_s=after_s):
                    failures += 1
                    if failures >= self._pace.tries:
                        return call.outcome
                    longest = min(self._pace.first_pause_s * 2**failures, self._pace.most_pause_s)
                    await asyncio.sleep(max(after_s, random.uniform(0, longest)))
                case _:
                    return call.outcome

    def _stopped(self, park: Park) -> AnnotatorUnavailable:
        self._breaker.stop(park.cause, park.reason, park.for_s)
        return AnnotatorUnavailable(park.reason)

    async def _call(
        self, questions: Sequence[Question], keys: Sequence[bytes], *, room: int = 1, repair: bool = False
    ) -> Call | None:
        """Make one request as soon as it may be made; None if there is no money for it.

        Without keys it is a trial of the service, which an open breaker does not stop.
        """
        most = self._llm.most(questions, room)
        reservation = await self._budget.reserve(most)
        if reservation is None:
            return None
        call: Call | None = None
        sent = False
        try:
            entered = await self._places.enter()
            try:
                request = await self._requests.take(1)
                try:
                    tokens = await self._tokens.take(most.input_tokens)
                    try:
                        if keys and self._breaker.is_open:
                            raise _OpenedMeanwhile
                        sent = True
                        call = await self._llm.ask(questions, room=room, repair=repair)
                        return call
                    finally:
                        await self._tokens.end(tokens, _counted(call, most, self._budget) if sent else 0)
                finally:
                    await self._requests.end(request, 1 if sent else 0)
            finally:
                try:  # before the place is free: a killed process forgets no more requests than there are places
                    if call is not None:
                        await self._settle(call, reservation, keys)
                finally:
                    self._places.leave(entered, good=_good(call), overloaded=_overloaded(call))
        finally:
            if not sent:
                await self._budget.release(reservation)

    async def _settle(self, call: Call, reservation: Reservation, keys: Sequence[bytes]) -> None:
        outcome = call.outcome
        answers: Mapping[bytes, bytes] = {}
        match outcome:
            case Retry(cause="overloaded" | "timeout" | "network" | "unreadable", reason=reason):
                self._breaker.failed(reason)
            case Retry(cause="rate_limit", after_s=after_s):
                await self._requests.hold(after_s or self._pace.first_pause_s)
            case Park():
                pass
            case _:
                self._accepted = self._accepted or not isinstance(outcome, Permanent)
                self._breaker.succeeded()
        if keys and isinstance(outcome, Replied):
            answers = {keys[i]: keep(answer) for i, answer in outcome.answers.items()}
        await self._budget.settle(reservation, call.usage, answers)


def _good(call: Call | None) -> bool:
    return call is not None and isinstance(call.outcome, Replied)


def _overloaded(call: Call | None) -> bool:
    outcome: RequestOutcome | None = None if call is None else call.outcome
    return isinstance(outcome, Retry) and outcome.cause in ("rate_limit", "overloaded", "timeout")


def _counted(call: Call | None, most: Usage, budget: Budget) -> float:
    """Input tokens as the service counted them against its quota: known, or what they are likely to be."""
    if call is not None and call.usage is not None and call.usage.input_tokens:
        return call.usage.input_tokens
    return budget.estimate.likely(most).input_tokens
