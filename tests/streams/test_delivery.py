import asyncio
import gc
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

import pytest

from schemas.dead_letter import DeadLetter
from schemas.errors import BrokerUnavailable, ConfigurationError, InvalidRecord, StoreUnavailable
from schemas.wire import Decoder
from streams.delivery import Backoff, Delivery
from streams.early import Send
from streams.record import Effects, Handed, Message, Record
from streams.stage import Item, Stage

DEAD = "dead-letters"
QUICK = Backoff(first=0.001, most=0.002, tries=2)


def records(*values: bytes) -> list[Record]:
    return [Record("in", 0, offset, 1_000 + offset, b"k", value) for offset, value in enumerate(values)]


class UpperStage(Stage[bytes]):
    """Upper-cases; b"bad" can't be decoded, b"bomb" can't be processed; fails as often as `failures` says."""

    name = "upper"

    def __init__(self, failures: Sequence[Exception] = ()) -> None:
        super().__init__(DEAD)
        self.failures = list(failures)
        self.confirmed: list[bytes] = []

    def decode(self, record: Record) -> bytes:
        if record.value is None or record.value == b"bad":
            raise InvalidRecord("invalid", "bad is not good")
        return record.value

    async def process(self, items: Sequence[Item[bytes]]) -> Effects:
        if self.failures:
            raise self.failures.pop(0)
        values = [item.event for item in items]
        if b"bomb" in values:
            raise ValueError("boom")
        return Effects(
            messages=[Message("out", value, value.upper()) for value in values],
            changelog=[Message("log", value, value) for value in values],
            confirm=lambda: self.confirmed.extend(values),
        )


class Broker:
    """Takes messages; refuses the first calls with the failures it was given."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.calls: list[list[Message]] = []

    async def produce(self, messages: Sequence[Message]) -> None:
        if self.failures:
            self.failures -= 1
            raise BrokerUnavailable("away")
        self.calls.append(list(messages))

    def values(self, topic: str) -> list[bytes | None]:
        return [message.value for call in self.calls for message in call if message.topic == topic]

    def letters(self) -> list[DeadLetter]:
        return [Decoder(DeadLetter).decode(value) for value in self.values(DEAD) if value is not None]


async def test_messages_are_acknowledged_before_the_changelog_and_memory_changes_last() -> None:
    broker, stage = Broker(), UpperStage()
    await Delivery(stage, broker.produce, QUICK).deliver(records(b"a", b"b"))
    assert [message.topic for call in broker.calls for message in call] == ["out", "out", "log", "log"]
    assert len(broker.calls) == 2
    assert stage.confirmed == [b"a", b"b"]


async def test_a_run_with_a_record_that_cannot_be_decoded_ends_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        effects = await UpperStage().run(records(b"a", b"bad"))
        confirm = weakref.ref(effects.confirm)
        del effects
        assert confirm() is None
    finally:
        gc.enable()


async def test_what_cannot_be_decoded_becomes_a_dead_letter_with_its_bytes_and_origin() -> None:
    broker = Broker()
    await Delivery(UpperStage(), broker.produce, QUICK).deliver(records(b"a", b"bad", b"c"))
    assert broker.values("out") == [b"A", b"C"]
    (letter,) = broker.letters()
    assert (letter.kind, letter.payload, letter.key, letter.origin) == ("invalid", b"bad", b"k", "in/0/1")
    assert letter.message == "bad is not good"
    assert letter.timestamp_ms == 1_001


async def test_a_service_that_is_away_for_long_is_waited_for_and_nothing_is_dropped() -> None:
    away = [StoreUnavailable("away")] * 20
    broker, stage = Broker(failures=5), UpperStage(away)
    await Delivery(stage, broker.produce, QUICK).deliver(records(b"a", b"b"))
    assert broker.values("out") == [b"A", b"B"]
    assert broker.letters() == []


async def test_a_broker_that_refuses_leaves_memory_unchanged_until_it_acknowledges() -> None:
    broker, stage = Broker(failures=1), UpperStage()
    await Delivery(stage, broker.produce, QUICK).deliver(records(b"a"))
    assert stage.confirmed == [b"a"]


async def test_the_record_that_fails_alone_is_filed_and_the_rest_of_its_run_flows_on() -> None:
    broker, stage = Broker(), UpperStage()
    await Delivery(stage, broker.produce, QUICK).deliver(records(b"a", b"b", b"bomb", b"c", b"d"))
    assert sorted(broker.values("out")) == [b"A", b"B", b"C", b"D"]
    (letter,) = broker.letters()
    assert (letter.kind, letter.payload, letter.message) == ("failed", b"bomb", "ValueError: boom")
    assert sorted(stage.confirmed) == [b"a", b"b", b"c", b"d"]


async def test_a_failure_that_passes_costs_no_record() -> None:
    broker, stage = Broker(), UpperStage([ValueError("once")])
    await Delivery(stage, broker.produce, QUICK).deliver(records(b"a"))
    assert broker.values("out") == [b"A"]
    assert broker.letters() == []


async def test_a_wrong_configuration_blames_no_record_and_is_raised() -> None:
    broker, stage = Broker(), UpperStage([ConfigurationError("mend it")])
    with pytest.raises(ConfigurationError, match="mend it"):
        await Delivery(stage, broker.produce, QUICK).deliver(records(b"a"))
    assert broker.calls == []


class AheadStage(UpperStage):
    """The same, and its runs may be processed ahead; says what it has processed."""

    needs_of_last = "nothing"

    def __init__(self, failures: Sequence[Exception] = ()) -> None:
        super().__init__(failures)
        self.processed: list[bytes] = []
        self.behind: list[tuple[object, bytes]] = []

    async def process(self, items: Sequence[Item[bytes]]) -> Effects:
        events = [item.event for item in items]
        self.processed.extend(events)
        return replace(await super().process(items), changes=events)

    async def process_behind(self, items: Sequence[Item[bytes]], last: Effects | None, send: Send) -> Effects:
        if last is not None:
            self.behind.extend((last.changes, item.event) for item in items)
        effects = await self.process(items)
        for message in effects.messages:
            send(message)
            await self.turn()
        return replace(effects, messages=())

    async def turn(self) -> None:
        """Let others go on between two messages."""
        await asyncio.sleep(0)


class SlowBroker(Broker):
    """Acknowledges only while `open`."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__(failures)
        self.open = asyncio.Event()

    async def produce(self, messages: Sequence[Message]) -> None:
        await self.open.wait()
        await super().produce(messages)


async def test_a_run_is_processed_while_the_one_before_waits_for_the_broker_and_the_third_is_not() -> None:
    broker, stage = SlowBroker(), AheadStage()
    delivery = Delivery(stage, broker.produce, QUICK)
    first = await delivery.begin(records(b"a"))
    second = asyncio.ensure_future(delivery.begin(records(b"b")))
    await asyncio.sleep(0.01)
    assert stage.processed == [b"a", b"b"]
    assert not first.done() and not second.done()
    assert stage.confirmed == []
    broker.open.set()
    await (await second)
    assert first.done()
    assert broker.values("out") == [b"A", b"B"]
    assert stage.confirmed == [b"a", b"b"]


async def test_ahead_or_not_effects_become_durable_in_order_through_failures_of_stage_and_broker() -> None:
    broker, stage = Broker(failures=2), AheadStage([StoreUnavailable("away"), ValueError("passes")])
    delivery = Delivery(stage, broker.produce, QUICK)
    begun = [await delivery.begin(records(value, b"bad")) for value in (b"a", b"b", b"c")]
    await asyncio.gather(*begun)
    assert broker.values("out") == [b"A", b"B", b"C"]
    assert stage.confirmed == [b"a", b"b", b"c"]
    assert len(broker.letters()) == 3


@pytest.mark.parametrize(("needs", "ahead"), [("durable", False), ("effects", True), ("nothing", True)])
async def test_a_run_begins_when_it_has_what_it_needs_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch, needs: str, ahead: bool
) -> None:
    monkeypatch.setattr(AheadStage, "needs_of_last", needs)
    broker, stage = SlowBroker(), AheadStage()
    delivery = Delivery(stage, broker.produce, QUICK)
    await delivery.begin(records(b"a"))
    second = asyncio.ensure_future(delivery.begin(records(b"b")))
    await asyncio.sleep(0.01)
    assert stage.processed == ([b"a", b"b"] if ahead else [b"a"])
    broker.open.set()
    await (await second)
    assert stage.processed == stage.confirmed == [b"a", b"b"]
    assert stage.behind == ([([b"a"], b"b")] if needs == "effects" else [])
    await (await delivery.begin(records(b"c")))
    assert len(stage.behind) == (needs == "effects"), "all is durable: there is nothing to be behind of"


@pytest.mark.parametrize(
    ("failures", "processed"),
    [
        pytest.param([None], [b"a", b"b"], id="durable at the first try"),
        pytest.param([BrokerUnavailable("away")], [b"a", b"b", b"a", b"b"], id="tried again"),
        pytest.param([ValueError("too large")] * 2, [b"a", b"b", b"a", b"b"], id="filed as a dead letter"),
    ],
)
async def test_what_was_built_on_a_try_that_did_not_stand_is_made_again(
    monkeypatch: pytest.MonkeyPatch, failures: list[Exception | None], processed: list[bytes]
) -> None:
    monkeypatch.setattr(AheadStage, "needs_of_last", "effects")
    broker, stage = SlowBroker(), AheadStage()

    async def produce(messages: Sequence[Message]) -> None:
        await broker.open.wait()
        failure = failures.pop(0) if failures else None
        if failure is not None:
            raise failure
        await broker.produce(messages)

    delivery = Delivery(stage, produce, QUICK)
    filed = len(failures) > 1
    await delivery.begin(records(b"a"))
    second = asyncio.ensure_future(delivery.begin(records(b"b")))
    await asyncio.sleep(0.01)
    assert stage.behind == [([b"a"], b"b")]
    broker.open.set()
    await (await second)
    assert stage.processed == processed
    assert stage.confirmed == ([b"b"] if filed else [b"a", b"b"])
    assert len(stage.behind) == 1
    assert broker.values("out") == ([b"B"] if filed else [b"A", b"B"])


class HandingBroker(SlowBroker):
    """Takes messages early as well, and acknowledges them, or refuses them, when more are produced."""

    def __init__(self, refused: Exception | None = None, *, silent: bool = False) -> None:
        super().__init__()
        self.handed: list[Handed] = []
        self.refused = refused
        self.silent = silent

    def hand_over(self, messages: Sequence[Message]) -> list[Handed]:
        new = [Handed(message, Future()) for message in messages]
        self.handed += new
        return new

    async def produce(self, messages: Sequence[Message]) -> None:
        await self.open.wait()
        handed, self.handed = self.handed, []
        if handed and (self.silent or self.refused):
            for _, acknowledgement in handed:
                if self.refused:
                    acknowledgement.set_exception(self.refused)
            self.refused, self.silent = None, False
            await super().produce(messages)
            return
        for _, acknowledgement in handed:
            acknowledgement.set_result(None)
        await super().produce([*(message for message, _ in handed), *messages])


class PausingStage(AheadStage):
    """Waits after each message until it may go on."""

    needs_of_last = "effects"

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Semaphore(0)

    async def turn(self) -> None:
        await self.go_on.acquire()


def on_the_way(broker: HandingBroker) -> list[bytes | None]:
    return [message.value for message, _ in broker.handed]


async def test_a_message_goes_out_before_the_rest_of_its_run_is_made() -> None:
    broker, stage = HandingBroker(), PausingStage()
    broker.open.set()
    delivery = Delivery(stage, broker.produce, QUICK, hand_over=broker.hand_over)
    begun = asyncio.ensure_future(delivery.begin(records(b"a", b"b")))
    await asyncio.sleep(0.01)
    assert on_the_way(broker) == [b"A"]
    stage.go_on.release()
    await asyncio.sleep(0.01)
    assert on_the_way(broker) == [b"A", b"B"]
    assert stage.confirmed == []
    stage.go_on.release()
    await (await begun)
    assert broker.values("out") == [b"A", b"B"]
    assert [message.topic for call in broker.calls for message in call] == ["out", "out", "log", "log"]


async def test_no_message_goes_out_before_the_run_that_it_is_built_on_is_durable() -> None:
    broker, stage = HandingBroker(), PausingStage()
    stage.go_on.release()
    delivery = Delivery(stage, broker.produce, QUICK, hand_over=broker.hand_over)
    first = await delivery.begin(records(b"a"))
    second = asyncio.ensure_future(delivery.begin(records(b"b", b"c", b"d")))
    await asyncio.sleep(0.01)
    assert on_the_way(broker) == [b"A"]
    broker.open.set()
    await first
    assert on_the_way(broker) == []
    stage.go_on.release()
    await asyncio.sleep(0.01)
    assert on_the_way(broker) == [b"B", b"C"], "what was held goes first"
    stage.go_on.release()
    stage.go_on.release()
    await (await second)
    assert broker.values("out") == [b"A", b"B", b"C", b"D"]


@pytest.mark.parametrize(
    "broker",
    [HandingBroker(BrokerUnavailable("away")), HandingBroker(silent=True), HandingBroker(ValueError("too large"))],
    ids=["refused", "no answer", "too large"],
)
async def test_what_went_out_early_and_was_not_acknowledged_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, broker: HandingBroker
) -> None:
    monkeypatch.setattr(AheadStage, "needs_of_last", "effects")
    stage = AheadStage()
    broker.open.set()
    delivery = Delivery(stage, broker.produce, QUICK, hand_over=broker.hand_over)
    await (await delivery.begin(records(b"a", b"b")))
    assert broker.values("out") == [b"A", b"B"]
    assert broker.values("log") == [b"a", b"b"], "not before its messages were acknowledged"
    assert stage.confirmed == [b"a", b"b"]


async def test_a_run_whose_first_try_failed_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AheadStage, "needs_of_last", "effects")
    broker, stage = SlowBroker(), AheadStage([StoreUnavailable("away")])
    delivery = Delivery(stage, broker.produce, QUICK)
    await delivery.begin(records(b"a"))
    broker.open.set()
    await (await delivery.begin(records(b"b")))
    assert stage.behind == []
    assert stage.confirmed == [b"a", b"b"]


async def test_what_ended_for_a_wrong_configuration_lets_no_later_run_begin() -> None:
    broker = Broker()
    delivery = Delivery(AheadStage([ConfigurationError("wrong")] * QUICK.tries), broker.produce, QUICK)
    first = await delivery.begin(records(b"a"))
    with pytest.raises(ConfigurationError, match="wrong"):
        await delivery.begin(records(b"b"))
    with pytest.raises(ConfigurationError, match="wrong"):
        await first
    assert broker.calls == []


async def test_a_cancelled_delivery_is_not_done() -> None:
    broker = SlowBroker()
    delivery = Delivery(AheadStage(), broker.produce, QUICK)
    first = await delivery.begin(records(b"a"))
    delivery.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    assert broker.calls == []


def test_backoff_doubles_up_to_its_bound() -> None:
    backoff = Backoff(first=0.5, most=4.0)
    assert [backoff.delay(failures) for failures in (1, 2, 3, 4, 5, 1_000)] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
