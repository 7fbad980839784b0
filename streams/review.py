"""The review stage: what the student left open, the LLM decides."""

from collections.abc import Mapping, Sequence

import msgspec

from models.annotator import Annotator, Answered, Declined, Outcome, Postponed, Question, Verdict
from models.isolation import speaks_to_the_rater
from models.media.clips import Clips
from monitoring import metrics
from schemas.annotation import Annotation, AttributeScore, Media, ReviewRequest
from schemas.attributes import Catalogue
from schemas.errors import InvalidRecord
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.decisions import count_verdicts
from streams.record import Effects, Message, Record
from streams.review_gain import ExpectedGain
from streams.stage import Item, Stage, record_key


class ReviewStage(Stage[ReviewRequest]):
    """Every review request becomes one annotation; the newest request of a video in a run answers for all.

    It is final, by the LLM's answer or, if the LLM will never answer, by the student's guess. If the LLM can't be paid
    or fails on this video, it stays provisional, without guarantee, and says why; a replay of the request tries again.
    """

    name = "review"
    freshness = metrics.UPLOAD_TO_REVIEWED

    def __init__(
        self,
        annotator: Annotator,
        catalogue: Catalogue,
        *,
        annotations: str,
        dead_letters: str,
        clips: Clips | None = None,
    ) -> None:
        """Take over `annotator` and `clips`, which bring the videos to an annotator that sees them."""
        super().__init__(dead_letters)
        self._clips = clips
        self._annotator = annotator
        self._catalogue = catalogue
        self._annotations = annotations
        self._gain = ExpectedGain(catalogue)
        self._requests = Decoder(ReviewRequest)

    def decode(self, record: Record) -> ReviewRequest:
        """Return the request, without attributes that were retired since."""
        video_id = record_key(record)
        if record.value is None:
            raise InvalidRecord("impossible", "a review request has a value")
        request = self._requests.decode(record.value)
        if not request.upload.video_id == request.annotation.video_id == video_id:
            raise InvalidRecord("impossible", f"key {video_id!r}, upload and annotation name different videos")
        unknown = self._catalogue.unknown(request.attributes)
        if unknown:
            raise InvalidRecord("impossible", f"attributes {unknown} are not in the catalogue of this worker")
        missing = [name for name in request.attributes if name not in request.annotation.attributes]
        if missing:
            raise InvalidRecord("impossible", f"attributes {missing} are asked for but not in the annotation")
        asked = tuple(name for name in request.attributes if name not in self._catalogue.retired)
        return msgspec.structs.replace(request, attributes=asked)

    async def process(self, items: Sequence[Item[ReviewRequest]]) -> Effects:
        """Ask the annotator and finish the annotations."""
        newest: dict[str, ReviewRequest] = {}
        for _, request in items:
            known = newest.get(request.upload.video_id)
            if known is None or request.annotation.seq >= known.annotation.seq:
                newest[request.upload.video_id] = request
        requests = [request for request in newest.values() if request.attributes]
        questions = [self._question(request) for request in requests]
        if self._clips is None:
            outcomes = await self._annotator.annotate(questions)
        else:
            async with self._clips.attach(questions) as questions:
                outcomes = await self._annotator.annotate(questions)
        reviewed = [
            _given(self._finish(request, outcome), request, question, outcome)
            for request, question, outcome in zip(requests, questions, outcomes, strict=True)
        ]
        reviewed += [self._finish(request, _RETIRED) for request in newest.values() if not request.attributes]

        def confirm() -> None:
            for annotation in reviewed:
                metrics.ANNOTATED.labels(annotation.source, annotation.status).inc()
            count_verdicts(zip((request.attributes for request in requests), reviewed, strict=True))
            self._gain.saw(request.annotation.attributes for request in requests)

        messages = [Message(self._annotations, one.video_id.encode(), encode(one)) for one in reviewed]
        final = [annotation.received_at_ms for annotation in reviewed if annotation.status == "final"]
        return Effects(messages=messages, visible_ms=final, confirm=confirm)

    def _question(self, request: ReviewRequest) -> Question:
        scores = {name: request.annotation.attributes[name] for name in request.attributes}
        decides_serving = not scores.keys().isdisjoint(self._catalogue.policy_ids)
        return Question(request.upload, request.attributes, self._gain.of(scores), alone=decides_serving)

    def _finish(self, request: ReviewRequest, outcome: Outcome) -> Annotation:
        provisional = request.annotation
        scores = {name: provisional.attributes[name] for name in request.attributes}
        if isinstance(outcome, Postponed):
            return msgspec.structs.replace(
                provisional, annotated_at_ms=now_ms(), reason=outcome.reason[:_MAX_REASON], guarantee=False
            )
        if isinstance(outcome, Answered):
            verdicts = self._fail_closed(outcome, request.upload)
            known = request.certified_with in (None, self._annotator.version)
            decided = {name: _answered(score, verdicts[name], known=known) for name, score in scores.items()}
            doubts = [f"{name}: {verdicts[name].reason}" for name in scores if verdicts[name].reason]
            reason = "; ".join(doubts)[:_MAX_REASON] or None
        else:
            decided = self._guessed(scores)
            reason = outcome.reason[:_MAX_REASON]
        return msgspec.structs.replace(
            provisional,
            status="final",
            annotated_at_ms=now_ms(),
            attributes={**provisional.attributes, **decided},
            annotator=self._annotator.version,
            reason=reason,
        )

    def _fail_closed(self, answered: Answered, upload: VideoUpload) -> Mapping[str, Verdict]:
        """Leave policy attributes open where a text that may have been written for the LLM got itself cleared."""
        verdicts = answered.verdicts
        cleared = [name for name in self._catalogue.policy_ids if name in verdicts and verdicts[name].label is False]
        if not cleared or not (answered.speaks_to_rater or speaks_to_the_rater(upload)):
            return verdicts
        return {**verdicts, **dict.fromkeys(cleared, _NOT_CLEARED)}

    def _guessed(self, scores: Mapping[str, AttributeScore]) -> dict[str, AttributeScore]:
        """Let the student's guess stand, except for policy attributes: open, they keep the video from being served."""
        return {
            name: msgspec.structs.replace(
                score, label=None if self._catalogue[name].policy else score.p >= 0.5, certified=False
            )
            for name, score in scores.items()
        }

    async def close(self) -> None:
        """Close the annotator and what brings videos."""
        await self._annotator.close()
        if self._clips is not None:
            await self._clips.close()


_MAX_REASON = 500
_RETIRED = Declined("what was open was retired from the catalogue")
_NOT_CLEARED = Verdict(None, None, "the text may speak to the LLM, which then can't clear it")


def _given(made: Annotation, request: ReviewRequest, question: Question, outcome: Outcome) -> Annotation:
    """Say of a video what the LLM was given: the video, or its text alone."""
    if request.upload.media_uri is None or not isinstance(outcome, Answered):
        return made
    media = made.media or Media("off")
    return msgspec.structs.replace(
        made, media=msgspec.structs.replace(media, llm="text" if question.clip is None else "video")
    )


def _answered(score: AttributeScore, verdict: Verdict, *, known: bool) -> AttributeScore:
    certified = score.certified and known
    return msgspec.structs.replace(
        score, label=verdict.label, source="llm", evidence=verdict.evidence, certified=certified
    )
