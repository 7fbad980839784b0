"""The annotator over Gemini's Batch API: half the price, within a day; for corpora, not for the stream.

A job is written down before it is sent and stays on disk until its answers are kept: a process that was killed finds it
again, by name or by its mark, and neither asks nor pays twice. Answers go to the same cache as those of the stream.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.genai import types
from google.genai.errors import APIError

from models.annotator import Declined, Outcome, Postponed, Question
from models.answer import unanswerable
from models.bulk_job import Job, JobFolder, Request
from models.gemini import Gemini, count, read_response
from models.gemini_failure import REQUEST_ERRORS, of_error
from models.isolation import Sharing, grouped
from models.llm_budget import Budget, Reservation
from models.llm_cache import content_key, keep, recall
from models.llm_outcome import NOTHING, Park, Permanent, Replied, RequestOutcome, Retry, Usage
from models.llm_state import LlmMemory
from schemas.annotation import AnnotatorVersion
from schemas.attributes import Catalogue
from schemas.errors import AnnotatorUnavailable

log = logging.getLogger(__name__)

_DONE = ("JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED")
_NEVER_RAN = "JOB_STATE_FAILED"
_FAILED = (_NEVER_RAN, "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED")
_FAILED_POLLS = 20
# A job is done within a day and expires after two; the third is for whoever has to start this process again.
_JOB_TERM_S = 72 * 3_600.0


@dataclass(frozen=True)
class BulkPace:
    """A job with inlined requests may have 20 MB; a request of 16 videos with rubric and schema seldom has 100 kB."""

    items_per_request: int = 16
    sharing: Sharing = "creator"
    requests_per_job: int = 150
    poll_s: float = 30.0


class BulkAnnotator:
    """Answers all questions of a call by batch jobs; takes over `gemini` and `state`.

    Risky videos have a request of their own; a video that its request left out is asked once more, alone. Give it all
    the questions at once: a call returns when the last job has ended.
    """

    def __init__(
        self,
        gemini: Gemini,
        catalogue: Catalogue,
        state: LlmMemory,
        budget: Budget,
        folder: Path,
        *,
        pace: BulkPace | None = None,
    ) -> None:
        """`budget` must have the prices of the Batch API; unfinished jobs are kept in `folder`."""
        self._gemini = gemini
        self._catalogue = catalogue
        self._state = state
        self._budget = budget
        self._jobs = JobFolder(folder)
        self._pace = pace or BulkPace()

    @property
    def version(self) -> AnnotatorVersion:
        """The model's and the prompt's: the same as in the stream."""
        return self._gemini.version

    async def annotate(self, questions: Sequence[Question]) -> Sequence[Outcome]:
        """Return one outcome per question, in order.

        Raises:
            AnnotatorUnavailable: Gemini can't be asked now; jobs that were accepted go on and are found again.

        """
        await _all(self._finish(job) for job in self._jobs.unfinished(self.version))
        outcomes: list[Outcome | None] = [unanswerable(question, self._catalogue) for question in questions]
        ours = {i: self._key(questions[i]) for i, outcome in enumerate(outcomes) if outcome is None}
        asked = {(key, questions[i].attributes): questions[i] for i, key in ours.items()}
        reasons = await self._ask(await self._unknown(list(asked.values())), self._pace.items_per_request)
        again = await self._unknown([question for question in asked.values() if self._key(question) not in reasons])
        reasons |= await self._ask(again, 1)
        known = await self._state.look_up(list(set(ours.values())))
        for i, key in ours.items():
            found = recall(known[key], questions[i]) if key in known else None
            outcomes[i] = found or Postponed(reasons.get(key, "the batch job brought no answer; ask again")[:500])
        return [outcome for outcome in outcomes if outcome is not None]

    async def close(self) -> None:
        """Close connections and files; jobs under way go on without us."""
        await self._gemini.close()
        await self._state.close()

    def _key(self, question: Question) -> bytes:
        return content_key(question, self._gemini)

    async def _unknown(self, questions: Sequence[Question]) -> list[Question]:
        known = await self._state.look_up([self._key(question) for question in questions])
        return [one for one in questions if (key := self._key(one)) not in known or recall(known[key], one) is None]

    async def _ask(self, questions: Sequence[Question], size: int) -> dict[bytes, str]:
        """Ask in jobs; return, by key, why some were not asked."""
        groups = grouped(questions, lambda question: question, size, self._pace.sharing)
        step = self._pace.requests_per_job
        jobs = [groups[at : at + step] for at in range(0, len(groups), step)]
        postponed: dict[bytes, str] = {}
        for found in await _all(self._submit(job, room=2 if size == 1 else 1) for job in jobs):
            postponed |= found
        return postponed

    async def _submit(self, groups: Sequence[Sequence[Question]], room: int) -> dict[bytes, str]:
        most = [self._gemini.most(group, room) for group in groups]
        bound = sum(most, NOTHING)
        reservation = await self._budget.reserve(bound, _JOB_TERM_S)
        if reservation is None and len(groups) > 1:  # the money may do for a smaller job
            middle = len(groups) // 2
            return await self._submit(groups[:middle], room) | await self._submit(groups[middle:], room)
        if reservation is None:
            return {self._key(question): "the budget for the LLM is spent" for group in groups for question in group}
        requests = [Request.of(secrets.token_hex(8), group) for group in groups]
        job = Job(secrets.token_hex(12), self.version, requests, room, reservation.id, bound)
        self._jobs.write(job)
        return await self._finish(job)

    async def _finish(self, job: Job) -> dict[bytes, str]:
        """Create the job if that has not been done, wait for it and keep its answers."""
        reservation = Reservation(job.reservation, job.most)
        name = job.name or await self._create(job)
        done = await self._wait(name)
        if done is None or done.state not in _DONE:
            if done is not None and done.state == _NEVER_RAN:
                await self._budget.release(reservation)
            else:  # some of it may have been answered and billed, and nobody tells
                await self._budget.settle(reservation, None, {})
            self._jobs.remove(job)
            reason = "is gone" if done is None else f"ended as {done.state}: {done.error.message if done.error else ''}"
            log.warning("batch job %s %s", name, reason)
            return {self._key(q): f"batch job {name} {reason}" for request in job.requests for q in request.questions}
        answers, usage = self._read(job, (done.dest.inlined_responses if done.dest else None) or [])
        await self._budget.settle(reservation, usage, answers)
        self._jobs.remove(job)
        return {}

    async def _create(self, job: Job) -> str:
        """Return the name of the job, which may have been created by a process that did not live to write it down."""
        try:
            batches = (await self._gemini.open()).aio.batches
            async for found in await batches.list(config=types.ListBatchJobsConfig(page_size=100)):
                if found.display_name == job.mark and found.name:
                    break
            else:
                found = await batches.create(
                    model=self._gemini.model,
                    src=[self._inlined(request, number, job.room) for number, request in enumerate(job.requests)],
                    config=types.CreateBatchJobConfig(display_name=job.mark),
                )
        except REQUEST_ERRORS as error:
            failure = of_error(error, self._gemini.model)
            if not isinstance(failure, Retry):  # it was refused: there is no such job
                await self._budget.release(Reservation(job.reservation, job.most))
                self._jobs.remove(job)
            raise AnnotatorUnavailable(failure.reason) from error
        name = found.name or ""
        self._jobs.name(job, name)
        return name

    def _inlined(self, request: Request, number: int, room: int) -> types.InlinedRequest:
        inlined = self._gemini.batched(request.asked, request.nonce, room)
        inlined.metadata = {"request": str(number)}
        return inlined

    async def _wait(self, name: str) -> types.BatchJob | None:
        """Return the job when it has ended; None if Gemini does not know it any more."""
        failures = 0
        while True:
            try:
                job = await (await self._gemini.open()).aio.batches.get(name=name)
                failures = 0
                if job.state in (*_DONE, *_FAILED):
                    return job
            except REQUEST_ERRORS as error:
                if isinstance(error, APIError) and error.code == 404:
                    return None
                failure = of_error(error, self._gemini.model)
                failures += 1
                if isinstance(failure, Park) or failures >= _FAILED_POLLS:
                    raise AnnotatorUnavailable(f"{failure.reason}; {name} goes on, ask again later") from error
            await asyncio.sleep(self._pace.poll_s)

    def _read(self, job: Job, replies: Sequence[types.InlinedResponse]) -> tuple[dict[bytes, bytes], Usage]:
        """Return what is to be kept, and the bill. Replies come in any order; their number says what they reply to.

        A request of which nothing is known, or not what it used, may have been billed up to its bound.
        """
        kept: dict[bytes, bytes] = {}
        numbers = Counter((reply.metadata or {}).get("request", "") for reply in replies)
        by_number = {(reply.metadata or {}).get("request", ""): reply for reply in replies}
        bill = NOTHING
        for number, request in enumerate(job.requests):
            reply = by_number.get(str(number)) if numbers[str(number)] == 1 else None
            if reply is not None and reply.error is not None and reply.response is None:
                continue  # it failed, which costs nothing
            call = read_response(reply.response, request.asked) if reply and reply.response else None
            known = call.usage if call is not None else None
            bill += known or self._gemini.most(request.questions, job.room)
            if call is not None:
                count(self._gemini.model, call)
                kept |= self._kept(call.outcome, request, last=job.room > 1)
        return kept, bill

    def _kept(self, outcome: RequestOutcome, request: Request, *, last: bool) -> dict[bytes, bytes]:
        match outcome:
            case Replied(answers):
                return {self._key(request.questions[i]): keep(answer) for i, answer in answers.items()}
            case Permanent(reason=reason) if len(request.asking) == 1:
                return {self._key(request.questions[0]): keep(Declined(reason))}
            case Retry(reason=reason) if len(request.asking) == 1 and last:
                return {self._key(request.questions[0]): keep(Declined(reason))}
            case _:
                return {}


async def _all(work: Any) -> list[dict[bytes, str]]:
    """Return all results; the first failure is raised when all have ended."""
    ended = await asyncio.gather(*work, return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException):
            raise one
    return [one for one in ended if not isinstance(one, BaseException)]
