"""A stage bound to a topic: the thinnest Faust app that runs it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import faust
from faust.types import TP

from monitoring import metrics
from streams.delivery import Delivery
from streams.record import Record
from streams.stage import Stage
from topology.runs import RawRecord, Run, RunConsumer, RunTransport
from topology.security import faust_credentials
from topology.settings import Role, Settings

# One run waits while one is worked on; what comes meanwhile makes the next one larger.
_BUFFERED_RUNS = 1


def stage_app(
    settings: Settings,
    role: Role,
    topic: str,
    stage: Stage[Any],
    delivery: Delivery,
    on_rebalance: Callable[[Sequence[int]], None] = lambda _: None,
    on_assigned: Callable[[Sequence[int]], None] = lambda _: None,
) -> faust.App:
    """Return the Faust app whose one agent delivers the runs of `topic` to `stage`.

    `on_rebalance` is told the partitions that were just taken from this worker, and those that were just given to it;
    `on_assigned` is then told the latter again.
    """
    app = faust.App(
        settings.group(role),
        broker=settings.broker,
        autodiscover=False,
        broker_credentials=faust_credentials(settings),
        broker_commit_interval=settings.commit_interval_s,
        broker_heartbeat_interval=settings.session_timeout_s / 4,
        broker_max_poll_records=settings.run_limit(role),
        broker_session_timeout=settings.session_timeout_s,
        consumer_auto_offset_reset="earliest",
        datadir=str(Path(gettempdir()) / "vibestream"),  # Faust wants one; nothing of ours is kept there
        key_serializer="raw",
        store="memory://",
        stream_buffer_maxsize=_BUFFERED_RUNS,
        stream_recovery_delay=0.1,  # Faust waits for its tables to settle; there are none
        table_standby_replicas=0,  # with standbys Faust lets a worker that joins go without partitions: 2, 2, 0 of four
        topic_allow_declare=False,
        topic_disable_leader=True,
        value_serializer="raw",
        web_enabled=False,
    )
    interval_s = settings.run_interval(role)
    app.transport = RunTransport(app.conf.broker_consumer, app, loop=app.loop, run_interval_s=interval_s)
    source = app.topic(topic, key_serializer="raw", value_serializer="raw")

    metrics.RUN_LIMIT.labels(stage.name).set(settings.run_limit(role))
    app.agent(source, name=role, concurrency=1)(_delivering(app, stage, delivery))

    def numbers(partitions: Iterable[TP]) -> list[int]:
        return [tp.partition for tp in partitions if tp.topic == topic]

    async def assigned(_: faust.App, partitions: set[TP], **__: Any) -> None:
        on_rebalance(numbers(partitions))
        on_assigned(numbers(partitions))

    async def revoked(_: faust.App, partitions: set[TP], **__: Any) -> None:
        on_rebalance(numbers(partitions))

    async def reading(app: faust.App, **__: Any) -> None:
        metrics.ASSIGNED_PARTITIONS.labels(stage.name).set(len(numbers(app.consumer.assignment())))

    signals: Any = app
    signals.on_rebalance_complete.connect(reading, weak=False)
    signals.on_partitions_assigned.connect(assigned, weak=False)
    signals.on_partitions_revoked.connect(revoked, weak=False)
    return app


def _delivering(app: faust.App, stage: Stage[Any], delivery: Delivery) -> Callable[[faust.StreamT[Run]], Any]:
    """Return the agent: it delivers run after run, and ends the app for what no retry can mend."""
    crashes: list[asyncio.Future[None]] = []

    async def deliver(stream: faust.StreamT[Run]) -> None:
        try:
            async for run in stream:
                durable = await delivery.begin([_record(raw) for raw in run.records])
                processed(run)
                durable.add_done_callback(partial(finish, run))
        except Exception as error:
            # The operator must mend something; going on would leave a run behind that is never committed.
            await app.crash(error)
            raise
        finally:
            delivery.cancel()

    def processed(run: Run) -> None:
        if isinstance(app.consumer, RunConsumer):
            app.consumer.processed(run)

    def finish(run: Run, durable: asyncio.Future[None]) -> None:
        if durable.cancelled():
            return
        error = durable.exception()
        if error is not None:
            crashes.append(asyncio.ensure_future(app.crash(error)))
            return
        consumer = app.consumer
        if isinstance(consumer, RunConsumer):
            consumer.finish(run)
            metrics.QUEUED_RUNS.labels(stage.name).set(consumer.queued)

    return deliver


def _record(raw: RawRecord) -> Record:
    return Record(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.key, raw.value, tuple(raw.headers))
