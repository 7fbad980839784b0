"""The review worker is killed in the middle, again and again: nothing is lost, and next to nothing asked twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.annotation import Annotation, AttributeScore, ReviewRequest, StudentVersion
from schemas.events import VideoUpload
from schemas.wire import Decoder, encode
from streams.record import Message
from tests.fakes.gemini_server import GeminiServer
from tests.processes import Processes, wait_until
from tests.redis_server import MISSING, redis_server
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.settings import Settings, with_changes
from topology.topics import ANNOTATIONS, REVIEW_REQUESTS

VIDEOS, KILLS, IN_FLIGHT = 160, 3, 4


def review_request(settings: Settings, video_id: str) -> Message:
    upload = VideoUpload(
        schema_version=1, video_id=video_id, creator_id="c", uploaded_at_ms=1, title=f"funny {video_id}"
    )
    annotation = Annotation(
        schema_version=1, video_id=video_id, status="provisional", received_at_ms=1, annotated_at_ms=1,
        attributes={"funny": AttributeScore(0.4, "uncertain", None, "student")}, student=StudentVersion("nano", 1),
    )  # fmt: skip
    made = ReviewRequest(schema_version=1, upload=upload, annotation=annotation, attributes=("funny",))
    return Message(settings.topic(REVIEW_REQUESTS), video_id.encode(), encode(made))


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.skipif(bool(MISSING), reason=MISSING or ""))])
def kept(request: pytest.FixtureRequest, pipeline: Settings, tmp_path: Path) -> Iterator[Settings]:
    """Settings by which answers and money are kept in a file, or in a Redis."""
    if request.param == "sqlite":
        yield pipeline
        return
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder) as url:
        yield with_changes(pipeline, llm_redis=url)


def test_a_review_worker_killed_three_times_loses_nothing_and_asks_only_what_was_in_flight_again(
    kept: Settings, gemini: GeminiServer, producer: ConfirmedProducer, processes: Processes, tmp_path: Path
) -> None:
    settings = with_changes(kept, llm_concurrency=IN_FLIGHT, llm_items_per_request=1)
    gemini.delay_s = 0.05
    answered = gemini.ledger.answered
    producer.produce_now([review_request(settings, f"v{i}") for i in range(VIDEOS)])
    for kill in range(KILLS + 1):
        worker = processes.start(settings, "-m", "topology.cli", "worker", "review", log=tmp_path / "review.log")
        if kill < KILLS:
            target = VIDEOS * (kill + 1) // (KILLS + 1)
            wait_until(lambda target=target: len(answered) >= target, 60, f"{target} videos are answered")
            worker.kill()
            worker.wait()
            assert len(answered) < VIDEOS, "killed too late to tell"

    def annotations() -> list[Annotation]:
        decoder = Decoder(Annotation)
        return [decoder.decode(record.value or b"") for record in read_topic(settings, ANNOTATIONS)]

    wait_until(lambda: len({one.video_id for one in annotations()}) == VIDEOS, 60, "every video is annotated")
    assert {(one.status, one.attributes["funny"].label, one.source) for one in annotations()} == {
        ("final", True, "llm")
    }
    assert set(answered) == {f"title: funny v{i}" for i in range(VIDEOS)}
    assert sum(answered.values()) - VIDEOS <= KILLS * IN_FLIGHT
