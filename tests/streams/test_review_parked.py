"""A review whose LLM wants to be left alone: its partition waits, says so, and goes on by itself."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
from prometheus_client import REGISTRY

from schemas.annotation import Annotation
from schemas.attributes import load_catalogue
from schemas.wire import Decoder
from streams.delivery import Backoff, Delivery
from streams.record import Message
from streams.review import ReviewStage
from tests.fakes.gemini_server import GeminiServer
from tests.streams.test_review import record, request
from topology.llm import make_llm
from topology.settings import Settings


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_used_up_quota_holds_the_partition_and_nothing_is_lost_or_given_up(
    gemini: GeminiServer, tmp_path: Path
) -> None:
    settings = Settings(gemini_api_key="key", gemini_base_url=gemini.url, llm_state=str(tmp_path))
    catalogue = load_catalogue()
    produced: list[Annotation] = []

    async def produce(messages: Sequence[Message]) -> None:
        assert {message.topic for message in messages} == {"annotations"}
        produced.extend(Decoder(Annotation).decode(message.value or b"") for message in messages)

    stage = ReviewStage(make_llm(settings, catalogue), catalogue, annotations="annotations", dead_letters="dead")
    delivery = Delivery(stage, produce, Backoff(most=0.05))
    gemini.faults.shares = {"daily_quota_ends": 1.0}
    pauses = metric("vibestream_llm_pauses_total", cause="quota")
    made = [
        msgspec.structs.replace(one, upload=msgspec.structs.replace(one.upload, title=f"funny {one.upload.video_id}"))
        for one in (request(f"v{i}", funny=None) for i in range(3))
    ]
    delivering = asyncio.create_task(delivery.deliver([record(one) for one in made]))
    async with asyncio.timeout(60):
        while metric("vibestream_llm_pauses_total", cause="quota") == pauses:
            await asyncio.sleep(0.01)
        assert metric("vibestream_llm_paused_until_seconds") > 0
        assert (delivering.done(), produced) == (False, [])
        gemini.faults.shares = {}
        await delivering
    await stage.close()
    assert {(one.video_id, one.status, one.attributes["funny"].label) for one in produced} == {
        (f"v{i}", "final", True) for i in range(3)
    }
    assert metric("vibestream_llm_paused_until_seconds") == 0
