"""Making a silver set: the student scores a corpus to sample it, the LLM labels the sample."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.annotator import Annotator, Postponed, Question
from models.isolation import grouped
from models.llm_cost import price_of
from models.llm_forecast import forecast
from models.llm_outcome import Llm
from models.silver_corpus import Sampled, Video, read_corpus, read_sample, write_sample
from models.silver_journal import JOURNAL, Entry, Journal, entry, header
from models.silver_labels import FAILURES, LABELS, Counts, export, read_answers
from models.silver_sample import STRATA, clusters, draw, near_edges
from models.student import Student
from schemas.attributes import Catalogue, load_catalogue
from schemas.errors import AnnotatorUnavailable, ConfigurationError
from topology.annotator import make_annotator
from topology.bulk import Bulk, bulk_price, make_bulk
from topology.bundle import bundle_path
from topology.console import progress
from topology.llm import make_gemini
from topology.settings import Settings, with_changes

_BATCH = 1_000
_RUN, _RUNS = 32, 4


async def sample(settings: Settings, paths: Sequence[Path], size: int, count: int, seed: int, out: Path) -> str:
    """Sample `size` videos of a corpus into `out`; return what was done, in a line.

    Raises:
        ConfigurationError: corpus, catalogue or student don't fit, or `out` can't be written.

    """
    catalogue = load_catalogue(settings.catalogue_path)
    videos = read_corpus(paths)
    if not videos:
        raise ConfigurationError(f"{', '.join(map(str, paths))}: no video has a text")
    student = Student.load(bundle_path(settings), catalogue, settings.provider)
    try:
        with progress() as bars:
            task = bars.add_task("score the corpus", total=len(videos))
            scored: list[tuple[np.ndarray, np.ndarray]] = []
            for at in range(0, len(videos), _BATCH):
                scores = await student.score([video.text for video in videos[at : at + _BATCH]])
                scored.append((scores.probability, scores.embedding))
                bars.update(task, completed=at + len(scores.probability))
    finally:
        student.close()
    probability, embedding = (np.concatenate(part) for part in zip(*scored, strict=True))
    near = near_edges(probability, student.bands, student.ids)
    drawn = draw(near, clusters(embedding, count, seed), size, seed)
    chosen = [
        Sampled(videos[index], STRATA[stratum], chance)
        for index, stratum, chance in zip(
            drawn.index.tolist(), drawn.stratum.tolist(), drawn.probability.tolist(), strict=True
        )
    ]
    write_sample(out, chosen)
    shares = ", ".join(f"{sum(one.stratum == name for one in chosen)} {name}" for name in STRATA)
    return f"{out}: {len(chosen)} of {len(videos)} videos ({shares})"


async def label(
    settings: Settings,
    path: Path,
    folder: Path,
    answers: Path | None,
    *,
    bulk: Bulk | None = None,
    only_estimate: bool = False,
) -> bool:
    """Label a sample into `folder`; tell whether nothing is left to ask.

    `bulk` asks at half the price; batch jobs take all videos at once.

    Raises:
        ConfigurationError: the sample, the answers or the folder's journal can't be used.
        AnnotatorUnavailable: the LLM went away; what was answered is kept.

    """
    catalogue = load_catalogue(settings.catalogue_path)
    chosen = read_sample(path)
    if answers is not None:
        if (folder / JOURNAL).exists():
            raise ConfigurationError(f"{folder} holds answers of an LLM; choose another folder for those of {answers}")
        _say(folder, export(folder, chosen, catalogue, read_answers(answers, chosen, catalogue)))
        return True
    if only_estimate:
        print(_estimate(settings, catalogue, [one.video for one in chosen], bulk), file=sys.stderr)
        return True
    annotator = make_bulk(settings, catalogue, bulk) if bulk else make_annotator(settings, catalogue)
    try:
        with Journal(folder, header(path, annotator.version, catalogue)) as journal:
            pending = [one.video for one in chosen if one.video.video_id not in journal.entries]
            print(_estimate(settings, catalogue, pending, bulk), file=sys.stderr)
            size = len(pending) if bulk == "batch" else _RUN
            postponed = await _ask(annotator, catalogue, pending, journal, len(chosen), size)
            counts = export(folder, chosen, catalogue, journal.entries)
    finally:
        await annotator.close()
    _say(folder, counts)
    for reason in sorted(postponed):
        print(f"left for the next run: {reason}", file=sys.stderr)
    return counts.left == 0


async def _ask(
    annotator: Annotator, catalogue: Catalogue, pending: Sequence[Video], journal: Journal, total: int, size: int
) -> set[str]:
    """Ask about `pending` and keep the answers; return why some were postponed."""
    runs = iter([pending[at : at + size] for at in range(0, len(pending), max(size, 1))])
    postponed: set[str] = set()
    failures: list[AnnotatorUnavailable] = []
    with progress() as bars:
        task = bars.add_task("label", total=total, completed=total - len(pending))

        async def work() -> None:
            for run in runs:
                if failures:
                    return
                try:
                    outcomes = await annotator.annotate([Question(video.upload, catalogue.ids) for video in run])
                except AnnotatorUnavailable as error:
                    failures.append(error)
                    return
                kept: list[Entry] = []
                for video, outcome in zip(run, outcomes, strict=True):
                    if isinstance(outcome, Postponed):
                        postponed.add(outcome.reason)
                    elif (found := entry(video.video_id, outcome)) is not None:
                        kept.append(found)
                journal.append(kept)
                bars.advance(task, len(kept))

        await asyncio.gather(*(work() for _ in range(_RUNS)))
    if failures:
        raise AnnotatorUnavailable(
            f"{failures[0]}; {len(journal.entries)} of {total} videos are labelled and kept; go on with the same"
            " command"
        )
    return postponed


def _estimate(settings: Settings, catalogue: Catalogue, videos: Sequence[Video], bulk: Bulk | None) -> str:
    if settings.llm != "gemini":
        return f"{len(videos)} videos to label by the local LLM: it costs no money"
    llm: Llm = make_gemini(with_changes(settings, gemini_api_key=settings.gemini_api_key or "none"), catalogue)
    price = price_of(settings.gemini_model, settings.llm_price)
    if bulk:
        price = bulk_price(price)
    questions = [Question(video.upload, catalogue.ids) for video in videos]
    requests = grouped(questions, lambda question: question, settings.llm_items_per_request, settings.llm_sharing)
    expected = forecast(llm, requests)
    usd, most = price.usd(expected.likely), price.usd(expected.most)
    return (
        f"{len(videos)} videos to label by {settings.gemini_model}: about {usd:.2f} US dollars, {most:.2f} at most,"
        f" at {settings.llm_usd_per_day:g} a day"
    )


def _say(folder: Path, counts: Counts) -> None:
    print(
        f"{folder / LABELS}: {counts.labelled} labels of {counts.videos} videos; {counts.failed} failures in"
        f" {folder / FAILURES}; {counts.left} left to ask"
    )
