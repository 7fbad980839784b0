"""The review stage: what the student left open, the LLM decides."""

from collections.abc import Mapping, Sequence

import msgspec

from models.annotator import Annotator, Answered, Outcome, Question, Verdict
from monitoring import metrics
from schemas.annotation import Annotation, AttributeScore, ReviewRequest
from schemas.attributes import Catalogue
from schemas.errors import InvalidRecord
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.record import Effects, Message, Record
from streams.stage import Item, Stage, record_key


class ReviewStage(Stage[ReviewRequest]):
    """Every review request becomes one final annotation; the newest request of a video in a run answers for all."""

    name = "review"

    def __init__(self, annotator: Annotator, catalogue: Catalogue, *, annotations: str, dead_letters: str) -> None:
        super().__init__(dead_letters)
        self._annotator = annotator
        self._catalogue = catalogue
        self._annotations = annotations
        self._requests = Decoder(ReviewRequest)

    def decode(self, record: Record) -> ReviewRequest:
        """Return the request."""
        video_id = record_key(record)
        if record.value is None:
            raise InvalidRecord("impossible", "a review request has a value")
        request = self._requests.decode(record.value)
        if not request.upload.video_id == request.annotation.video_id == video_id:
            raise InvalidRecord("impossible", f"key {video_id!r}, upload and annotation name different videos")
        unknown = [name for name in request.attributes if name not in self._catalogue.ids]
        if unknown:
            raise InvalidRecord("impossible", f"attributes {unknown} are not in the catalogue of this worker")
        missing = [name for name in request.attributes if name not in request.annotation.attributes]
        if missing:
            raise InvalidRecord("impossible", f"attributes {missing} are asked for but not in the annotation")
        return request

    async def process(self, items: Sequence[Item[ReviewRequest]]) -> Effects:
        """Ask the annotator and finish the annotations."""
        newest: dict[str, ReviewRequest] = {}
        for _, request in items:
            known = newest.get(request.upload.video_id)
            if known is None or request.annotation.seq >= known.annotation.seq:
                newest[request.upload.video_id] = request
        requests = list(newest.values())
        outcomes = await self._annotator.annotate([Question(r.upload, r.attributes) for r in requests])
        finals = [self._finish(request, outcome) for request, outcome in zip(requests, outcomes, strict=True)]

        def confirm() -> None:
            for final in finals:
                metrics.ANNOTATED.labels(final.source, final.status).inc()

        messages = [Message(self._annotations, final.video_id.encode(), encode(final)) for final in finals]
        return Effects(messages=messages, confirm=confirm)

    def _finish(self, request: ReviewRequest, outcome: Outcome) -> Annotation:
        provisional = request.annotation
        scores = {name: provisional.attributes[name] for name in request.attributes}
        if isinstance(outcome, Answered):
            decided = {name: _answered(score, outcome.verdicts[name]) for name, score in scores.items()}
            reason = None
        else:
            decided = self._guessed(scores)
            reason = outcome.reason
        return msgspec.structs.replace(
            provisional,
            status="final",
            annotated_at_ms=now_ms(),
            attributes={**provisional.attributes, **decided},
            annotator=self._annotator.version,
            reason=reason,
        )

    def _guessed(self, scores: Mapping[str, AttributeScore]) -> dict[str, AttributeScore]:
        """Let the student's guess stand, except for policy attributes: open, they keep the video from being served."""
        return {
            name: score if self._catalogue[name].policy else msgspec.structs.replace(score, label=score.p >= 0.5)
            for name, score in scores.items()
        }

    async def close(self) -> None:
        """Close the annotator."""
        await self._annotator.close()


def _answered(score: AttributeScore, verdict: Verdict) -> AttributeScore:
    return msgspec.structs.replace(score, label=verdict.label, source="llm", evidence=verdict.evidence)
