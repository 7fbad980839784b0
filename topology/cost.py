"""What a run will cost: the student sorts the uploads, and what is left for the LLM is counted and priced."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from msgspec import Struct

from models.annotator import Question
from models.answer import unanswerable
from models.bundle import load_manifest
from models.cascade import decide
from models.features import upload_text
from models.isolation import grouped
from models.llm_cache import content_key, merge, recall
from models.llm_cost import price_of
from models.llm_forecast import Forecast, forecast
from models.llm_outcome import Llm
from models.llm_state import LlmState
from models.media.clips import PresumedClips
from models.student import Student
from schemas.attributes import load_catalogue
from schemas.errors import InvalidRecord
from schemas.events import VideoUpload
from schemas.wire import Decoder
from streams.uploads import TakeDown, UploadDecoder
from topology.bundle import bundle_path
from topology.kafka import read_topic
from topology.llm import make_gemini, shared_llm
from topology.media import make_presumed_clips
from topology.replay import read_events
from topology.settings import Settings, with_changes
from topology.topics import VIDEO_UPLOADS

_BATCH = 1_000


class CostEstimate(Struct, frozen=True):
    """`usd` is what is likely, `usd_at_most` what the budget would reserve; see models/llm_forecast.

    `known` questions were answered before or come twice, and cost nothing. `videos` are shown to Gemini, for
    `video_tokens` of the input. `days` at the daily budget; None without.
    """

    model: str
    uploads: int
    invalid: int
    to_review: int
    known: int
    requests: int
    videos: int
    input_tokens: int
    video_tokens: int
    output_tokens: int
    usd: float
    usd_at_most: float
    usd_per_day: float | None
    days: float | None


def uploads_of(settings: Settings, source: str) -> Iterator[VideoUpload | None]:
    """Yield the uploads of a file, or of the topic video-uploads; None for what is no upload.

    Raises:
        ConfigurationError: the file can't be read.
        BrokerUnavailable: the broker does not answer.

    """
    if source in (VIDEO_UPLOADS, settings.topic(VIDEO_UPLOADS)):
        of_topic = UploadDecoder()
        for record in read_topic(settings, VIDEO_UPLOADS):
            try:
                event = of_topic.decode(record)
            except InvalidRecord:
                yield None
            else:
                if not isinstance(event, TakeDown):
                    yield event
        return
    of_file = Decoder(VideoUpload)
    for event in read_events(Path(source)):
        try:
            yield of_file.decode(event)
        except InvalidRecord:
            yield None


async def estimate(settings: Settings, uploads: Iterable[VideoUpload | None]) -> CostEstimate:
    """Return what asking Gemini about the uncertain attributes of `uploads` will cost; asks and fetches nothing.

    What is uncertain is what the student finds so by the text. A video that may be shown to Gemini is taken to be as
    long as its upload says, or else longer than what is shown of it; that it was shown before is known only of one
    that Gemini fetches itself.

    Raises:
        ConfigurationError: the model's price is not known, the student can't be loaded, or nothing may be shown.

    """
    catalogue = load_catalogue(settings.catalogue_path)
    price = price_of(settings.gemini_model, settings.llm_price)
    llm: Llm = make_gemini(with_changes(settings, gemini_api_key=settings.gemini_api_key or "none"), catalogue)
    clips = make_presumed_clips(settings)
    student = Student.load(bundle_path(settings), catalogue, settings.provider)
    shared = shared_llm(settings)
    local = LlmState(settings.llm_state_path, merge) if not shared and settings.llm_state_path.exists() else None
    state = shared.memory if shared else local
    seen: set[tuple[bytes, tuple[str, ...]]] = set()
    count = dict.fromkeys(("uploads", "invalid", "to_review", "known", "videos"), 0)
    total = Forecast()
    source = iter(uploads)
    while batch := list(islice(source, _BATCH)):
        valid = [upload for upload in batch if upload is not None]
        count["uploads"] += len(valid)
        count["invalid"] += len(batch) - len(valid)
        questions = [
            question
            for question in await _questions(student, valid, catalogue.policy_ids, clips)
            if not unanswerable(question, catalogue)
        ]
        keys = [content_key(question, llm) for question in questions]
        kept = await state.look_up(list(set(keys))) if state else {}
        fresh: list[Question] = []
        for key, question in zip(keys, questions, strict=True):
            count["to_review"] += 1
            if (key, question.attributes) in seen or (key in kept and recall(kept[key], question)):
                count["known"] += 1
            else:
                seen.add((key, question.attributes))
                fresh.append(question)
                count["videos"] += question.clip is not None
        for at in range(0, len(fresh), settings.max_review_run):  # only what review takes at once can share a request
            run = fresh[at : at + settings.max_review_run]
            requests = grouped(run, lambda question: question, settings.llm_items_per_request, settings.llm_sharing)
            total += forecast(llm, requests)
    student.close()
    if state:
        await state.close()
    usd, daily = price.usd(total.likely), settings.llm_usd_per_day or None
    return CostEstimate(
        settings.gemini_model, **count, requests=total.requests, input_tokens=total.likely.input_tokens,
        video_tokens=total.video_tokens, output_tokens=total.likely.output_tokens, usd=round(usd, 4),
        usd_at_most=round(price.usd(total.most), 4),
        usd_per_day=daily,
        days=None if daily is None else round(usd / daily, 2),
    )  # fmt: skip


async def usd_per_1000(settings: Settings, bundle: Path, texts: Sequence[str]) -> float:
    """Return the likely bill in US dollars for 1,000 uploads like `texts`, if Gemini answers at the bundle's bands.

    Every upload is taken to be of another creator.

    Raises:
        ConfigurationError: the model's price is not known.
        BundleError: the bundle can't be loaded.

    """
    price = price_of(settings.gemini_model, settings.llm_price)
    catalogue = load_manifest(bundle).catalogue
    llm = make_gemini(with_changes(settings, gemini_api_key=settings.gemini_api_key or "none"), catalogue)
    uploads = [
        VideoUpload(schema_version=1, video_id=str(i), creator_id=str(i), uploaded_at_ms=0, description=text)
        for i, text in enumerate(texts)
    ]
    student = Student.load(bundle, catalogue, settings.provider)
    try:
        questions = await _questions(student, uploads, catalogue.policy_ids)
    finally:
        student.close()
    requests = grouped(questions, lambda question: question, settings.llm_items_per_request, settings.llm_sharing)
    return 1_000 * price.usd(forecast(llm, requests).likely) / len(uploads)


async def _questions(
    student: Student, uploads: list[VideoUpload], policy: Collection[str], clips: PresumedClips | None = None
) -> list[Question]:
    if not uploads:
        return []
    scores = await student.score([upload_text(upload) for upload in uploads])
    made: list[Question] = []
    for upload, probability in zip(uploads, scores.probability, strict=True):
        decided = decide(probability, student.bands, student.ids)
        uncertain = tuple(name for name, score in decided.items() if score.label is None)
        if uncertain:
            clip = clips.of(upload) if clips else None
            made.append(Question(upload, uncertain, alone=any(name in policy for name in uncertain), clip=clip))
    return made
