"""The review stage against a service that fails in every way: is every item accounted for, and every cent?

`python -m tests.benchmarks.review` sends review requests, a tenth of them twice, through the real ReviewStage and
Delivery; records are in memory, the fake Gemini is a process of its own and keeps its own ledger and quotas. Prints one
JSON line and exits 1 if something was lost, the quota was exceeded, or the two ledgers differ by more than 1 %. Most
creators have one video, so most requests do as well.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from models.llm_cache import merge
from models.llm_state import LlmState
from schemas.annotation import Annotation, AttributeScore, ReviewRequest, StudentVersion
from schemas.attributes import Catalogue, load_catalogue
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from streams.delivery import Backoff, Delivery
from streams.record import Message, Record
from streams.review import ReviewStage
from tests.fakes.gemini_process import gemini_process
from topology.console import progress
from topology.llm import make_llm
from topology.settings import Settings

FAULTS = {
    "busy": 0.05, "overloaded": 0.01, "gateway": 0.01, "drop": 0.01, "bad_json": 0.01, "safety": 0.01, "stall": 0.005,
}  # fmt: skip
DUPLICATES = 0.10
RUN = 1_000
TIMEOUT_S, STALL_S = 2.0, 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--requests-per-minute", type=int, default=2_500)
    parser.add_argument("--tokens-per-minute", type=int, default=20_000_000)
    parser.add_argument("--items-per-request", type=int, default=Settings().llm_items_per_request)
    parser.add_argument("--creators", type=float, default=0.9, help="distinct ones per video")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    verdict = asyncio.run(bench(options))
    print(json.dumps(verdict))
    even = abs(verdict["charged_usd"] - verdict["ledger_usd"]) <= 0.01 * verdict["ledger_usd"]
    good = even and not verdict["lost"] and not verdict["quota_exceeded"]
    sys.exit(0 if good and verdict["requests"] <= 1.12 * verdict["distinct"] else 1)


async def bench(options: argparse.Namespace) -> dict[str, Any]:
    catalogue = load_catalogue()
    distinct = round(options.items * (1 - DUPLICATES))
    records = review_records(catalogue, options.items, distinct, options.creators, random.Random(options.seed))
    reviewed: dict[str, tuple[str, str | None, bool | None]] = {}
    decoder = Decoder(Annotation)

    async def produce(messages: Sequence[Message]) -> None:
        for message in messages:
            assert message.topic == "annotations", message
            annotation = decoder.decode(message.value or b"")
            reviewed[annotation.video_id] = (annotation.status, annotation.reason, annotation.guarantee)

    quotas = [
        f"--{name}={getattr(options, name.replace('-', '_'))}" for name in ("requests-per-minute", "tokens-per-minute")
    ]
    with (
        TemporaryDirectory() as folder,
        gemini_process(f"--faults={json.dumps(FAULTS)}", f"--stall={STALL_S}", *quotas) as fake,
    ):
        settings = Settings(
            gemini_api_key="key", gemini_base_url=fake.url, llm_state=folder, llm_usd_per_day=0.0,
            llm_items_per_request=options.items_per_request, llm_concurrency=64, gemini_timeout_s=TIMEOUT_S,
            llm_requests_per_minute=options.requests_per_minute, llm_tokens_per_minute=options.tokens_per_minute,
        )  # fmt: skip
        stage = ReviewStage(make_llm(settings, catalogue), catalogue, annotations="annotations", dead_letters="dead")
        delivery = Delivery(stage, produce, Backoff(most=0.5))
        started, early, late = time.monotonic(), [], []
        with progress() as bars:
            task = bars.add_task("review requests", total=len(records))
            for at in range(0, len(records), RUN):
                await delivery.deliver(records[at : at + RUN])
                bars.update(task, completed=at + RUN)
                share = at / len(records)
                (early if share < 0.5 else late).append(rss_kib())
        seconds = time.monotonic() - started
        await stage.close()
        ledger = fake.ledger()
        state = LlmState(Path(folder), merge)
        charged, _ = await state.charged()
        await state.close()
    final = [reason for status, reason, _ in reviewed.values() if status == "final"]
    provisional = [
        reason
        for status, reason, guarantee in reviewed.values()
        if status == "provisional" and reason and guarantee is False
    ]
    videos = len({record.key for record in records})
    print(
        f"{seconds:.0f} s; the fake saw {ledger['outcomes']}, at most {ledger['most_in_window']} requests in a minute;"
        f" {sum(reason is not None for reason in final)} final by the student's guess",
        file=sys.stderr,
    )
    return {
        "items": len(records),
        "distinct": distinct,
        "requests": ledger["requests"],
        "final": len(final),
        "provisional": len(provisional),
        "lost": videos - len(final) - len(provisional),
        "charged_usd": round(charged, 6),
        "ledger_usd": round(ledger["usd"], 6),
        "quota_exceeded": ledger["quota_exceeded"],
        "rss_ratio": round(max(late) / max(early), 3),
    }


def review_records(
    catalogue: Catalogue, items: int, distinct: int, creators: float, chance: random.Random
) -> list[Record]:
    """Review requests of different videos; beyond `distinct`, content comes again."""
    names = [attribute.id for attribute in catalogue.attributes]
    texts = [
        f"{' '.join(chance.choices(names, k=chance.randint(1, 4)))} number {i} " + "and so on " * chance.randint(0, 30)
        for i in range(distinct)
    ]
    asked = [tuple(sorted(chance.sample(names, chance.randint(1, 4)))) for _ in range(distinct)]
    order = [*range(distinct), *(chance.randrange(distinct) for _ in range(items - distinct))]
    chance.shuffle(order)
    whose = [f"c{chance.randrange(round(creators * items))}" for _ in order]
    return [_record(f"v{n}", whose[n], texts[i], asked[i], n) for n, i in enumerate(order)]


def _record(video_id: str, creator_id: str, title: str, asked: tuple[str, ...], offset: int) -> Record:
    upload = VideoUpload(schema_version=1, video_id=video_id, creator_id=creator_id, uploaded_at_ms=1, title=title)
    annotation = Annotation(
        schema_version=1, video_id=video_id, status="provisional", received_at_ms=1, annotated_at_ms=1,
        attributes={name: AttributeScore(0.4, "uncertain", None, "student") for name in asked},
        student=StudentVersion("nano", 1),
    )  # fmt: skip
    request = ReviewRequest(schema_version=1, upload=upload, annotation=annotation, attributes=asked)
    return Record("review-requests", 0, offset, 1, video_id.encode(), encode(request))


def rss_kib() -> int:
    """Return the resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


if __name__ == "__main__":
    main()
