"""Lets a system answer for the videos of a golden set, and measures what that takes."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from models.annotator import Annotator, Answered, Declined, Outcome, Question
from models.bundle import load_manifest
from models.evaluation import Answers, Effort, Truth
from models.student import Provider, Student
from monitoring import metrics
from schemas.attributes import Catalogue
from schemas.errors import AnnotatorUnavailable
from schemas.events import VideoUpload

_ALONE = 200
"""Texts that are scored one at a time, for the latency; the first ones."""

_RUN = 512
_LLM_RUN = 8
_LLM_RUNS = 4


async def ask_student(path: Path, truth: Truth, texts: Sequence[str], provider: Provider = "cpu") -> Answers:
    """Score `texts` and decide at the bundle's thresholds. CPU time is that of this process, with tokenizing.

    Raises:
        BundleError: the bundle is damaged or lacks an attribute.

    """
    manifest = load_manifest(path)
    chosen = Catalogue(tuple(one for one in manifest.catalogue.attributes if one.id in truth.attributes))
    student = Student.load(path, chosen, provider)
    try:
        await student.score(texts[:_ALONE])  # whatever is slow only once
        started = time.process_time()
        runs = [await student.score(texts[at : at + _RUN]) for at in range(0, len(texts), _RUN)]
        cpu_s = time.process_time() - started
        latencies = [await _seconds(student, text) for text in texts[:_ALONE]]
    finally:
        student.close()
    columns = [student.ids.index(name) for name in truth.attributes]
    probability = np.concatenate([run.probability for run in runs])[:, columns].astype(np.float64)
    fixed = {attribute.id: attribute.threshold for attribute in manifest.attributes}
    label = (probability >= [fixed[name] for name in truth.attributes]).astype(np.int8)
    effort = Effort(
        videos=len(texts),
        videos_per_cpu_s=round(len(texts) / max(cpu_s, 1e-9), 1),
        latency_p95_ms=_p95_ms(latencies),
    )
    return Answers(f"student {manifest.name} {manifest.version}", label, probability, effort)


async def ask_llm(annotator: Annotator, truth: Truth, uploads: Sequence[VideoUpload], *, one_by_one: bool) -> Answers:
    """Ask about the attributes of each video whose truth is known; unclear and declined ones are abstentions.

    Raises:
        AnnotatorUnavailable: the LLM went away, or postponed a question: what is left out can't be judged.

    """
    known = truth.label >= 0
    questions = {
        i: Question(upload, tuple(np.array(truth.attributes)[known[i]].tolist()))
        for i, upload in enumerate(uploads)
        if known[i].any()
    }
    order = list(questions)
    run = 1 if one_by_one else _LLM_RUN
    slots = asyncio.Semaphore(1 if one_by_one else _LLM_RUNS)
    latencies: list[float] = []

    async def ask(chosen: Sequence[int]) -> Sequence[Outcome]:
        async with slots:
            started = time.perf_counter()
            outcomes = await annotator.annotate([questions[i] for i in chosen])
            latencies.extend([time.perf_counter() - started] * len(chosen))
            return outcomes

    counters = (metrics.LLM_TOKENS, "input"), (metrics.LLM_TOKENS, "output"), (metrics.LLM_USD, None)
    before = [_total(counter, direction) for counter, direction in counters]
    runs = [order[at : at + run] for at in range(0, len(order), run)]
    answered = await asyncio.gather(*(ask(chosen) for chosen in runs))
    into, out, usd = (_total(*counter) - was for counter, was in zip(counters, before, strict=True))
    label = np.full(truth.label.shape, -1, np.int8)
    for chosen, outcomes in zip(runs, answered, strict=True):
        for i, outcome in zip(chosen, outcomes, strict=True):
            _note(label[i], truth.attributes, outcome)
    version = annotator.version
    videos = len(order)
    effort = Effort(
        videos=videos,
        latency_p95_ms=_p95_ms(latencies),
        input_tokens=round(into / max(videos, 1), 1),
        output_tokens=round(out / max(videos, 1), 1),
        usd_per_1000=round(1000 * usd / max(videos, 1), 4) if usd else None,
    )
    system = f"{version.model}, prompt {version.prompt} {version.prompt_version} ({version.prompt_hash})"
    return Answers(system, label, np.full(label.shape, np.nan), effort, version)


def _note(row: NDArray[np.int8], attributes: Sequence[str], outcome: Outcome) -> None:
    match outcome:
        case Answered(verdicts=verdicts):
            for name, verdict in verdicts.items():
                row[attributes.index(name)] = -1 if verdict.label is None else verdict.label
        case Declined():
            pass
        case _:
            raise AnnotatorUnavailable(f"the LLM postponed a question: {outcome.reason}; evaluate again later")


async def _seconds(student: Student, text: str) -> float:
    started = time.perf_counter()
    await student.score([text])
    return time.perf_counter() - started


def _p95_ms(seconds: Sequence[float]) -> float | None:
    return round(1000 * float(np.quantile(seconds, 0.95)), 3) if seconds else None


def _total(counter: Counter, direction: str | None) -> float:
    samples = (sample for family in counter.collect() for sample in family.samples if sample.name.endswith("_total"))
    return sum(sample.value for sample in samples if direction is None or sample.labels.get("direction") == direction)
