"""A pipeline that stays up from one fault to the next, all roles as processes, and the account of what it was sent."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from uuid import uuid4

from schemas.attributes import load_catalogue
from streams.attribute_table import AttributeTable
from streams.record import Message
from tests.fakes.gemini_server import GeminiServer, gemini_in_thread
from tests.faults.load import Letters, Load, ids, plain, upload_messages, videos, watch_messages
from tests.faults.outcomes import Outcome
from tests.faults.proxy import Proxy
from tests.faults.verdict import dead_letters, kept_states, replayed_states, watches
from tests.faults.workers import Workers
from tests.processes import wait_until
from topology.attribute_store import open_table
from topology.audit import audit
from topology.demo.flow import Flow
from topology.producer import ConfirmedProducer
from topology.settings import ROLES, Settings, with_changes
from topology.topics import ensure_topics

_PARTS = 20
_PACE_S = 0.2
_WATCHES_AFTER = 100
# The scenario's own producer outlasts every fault: what it sends is acknowledged or the test fails.
_DELIVERY_S = 120.0


class Live:
    """Takes one load and one fault after the other; the account is over everything since the beginning."""

    def __init__(
        self, settings: Settings, workers: Workers, gemini: GeminiServer, proxy: Proxy | None, report: list[Outcome]
    ) -> None:
        """`proxy` is the network between broker and workers, None where it is not ours; outcomes go to `report`."""
        self.settings = settings
        self.workers = workers
        self.gemini = gemini
        self.proxy = proxy
        self.watched = videos("seed", 200)
        self._report = report
        self.producer = ConfirmedProducer(settings, delivery_timeout_s=_DELIVERY_S)
        self._flow = Flow(settings)
        self._uploads = self._watches = self._records = 0
        self._videos: set[str] = set()
        self._letters = Letters()

    def plain(self, name: str) -> Load:
        """A load of uploads of the scenario's own and of watches of what is there since the beginning."""
        return plain(self.settings, name, self.watched)

    def suffer(self, name: str, load: Load, fault: Callable[["Live"], int]) -> Outcome:
        """Send a load, do the fault in its midst, and check everything when all of it has gone all the way."""
        times, ended = self._under(load, fault)
        self._drain()
        recovery_s = time.monotonic() - ended
        self._follow_up(name, load)
        return self._verdict(name, times, recovery_s)

    def _under(self, load: Load, fault: Callable[["Live"], int]) -> tuple[int, float]:
        begun, over = Event(), Event()

        def send() -> None:
            for number, part in enumerate(load.parts(_PARTS)):
                self._send(part)
                if number == _PARTS // 4:
                    begun.set()
                over.wait(_PACE_S)

        with ThreadPoolExecutor(1) as sender:
            sending = sender.submit(send)
            try:
                assert begun.wait(60), "the first part of the load is not acknowledged"
                times = fault(self)
            except BaseException:
                if self.proxy is not None:
                    self.proxy.heal()  # or the sender would wait for the broker
                raise
            finally:
                ended = time.monotonic()
                over.set()
            sending.result()
        self._uploads += len(load.uploads)
        self._watches += len(load.watches)
        self._videos |= load.videos
        self._letters += load.letters
        return times, ended

    def _send(self, messages: Sequence[Message]) -> None:
        self.producer.produce_now(messages)
        self._records += len(messages)

    def _drain(self) -> None:
        self._flow.wait(self._uploads, self._watches, lambda _: None, self.workers.check)

    def _follow_up(self, name: str, load: Load) -> None:
        """Watch what was uploaded meanwhile, when every session worker has it in its snapshot."""
        present = sum(batch.num_rows for batch in self._table().read(["video_id"]))
        sessions = self.workers.of("session")
        wait_until(
            lambda: all(self.workers.metric(worker, "vibestream_snapshot_videos") == present for worker in sessions),
            30,
            f"every session worker has {present} videos",
        )
        if load.shown:
            self._send(watch_messages(self.settings, load.shown, _WATCHES_AFTER, len(name)))
            self._watches += _WATCHES_AFTER
            self._drain()

    def _table(self) -> AttributeTable:
        return open_table(self.settings, load_catalogue())

    def _verdict(self, name: str, times: int, recovery_s: float) -> Outcome:
        counted = audit(self.settings, self._table())
        letters = dead_letters(self.settings)
        records = watches(self.settings, letters)
        kept = kept_states(self.settings, self.producer, records)
        clean = replayed_states(self.settings, records)
        behind = [at for at, state in clean.items() if at not in kept or kept[at].applied < state.applied]
        different = [at for at, state in clean.items() if at not in behind and kept[at] != state]
        lost = counted.uploads.lost + counted.store.missing + counted.store.stale + len(behind)
        outcome = Outcome(name, times, self._records, lost, counted.store.duplicates + len(different), recovery_s)
        self._report.append(outcome)
        prefix = len(self.settings.topic_prefix)
        assert counted.ok, (counted, counted.examples)
        assert (counted.uploads.records, counted.annotations.final) == (self._uploads, len(self._videos))
        assert (counted.annotations.provisional, counted.store.rows) == (0, len(self._videos))
        filed = Letters((letter.topic[prefix:], letter.kind) for letter in letters.values())
        assert filed == self._letters, f"too many: {filed - self._letters}; missing: {self._letters - filed}"
        assert not behind and not different, f"lost watches: {behind[:3]}; states that differ: {different[:3]}"
        return outcome

    def close(self) -> None:
        """Close the connections."""
        self._flow.close()
        self.producer.close()


@contextmanager
def live_pipeline(
    broker: str, proxy: Proxy | None, folder: Path, report: list[Outcome], replication: int = 1
) -> Iterator[Live]:
    """Run one worker per role on topics of their own, with some videos annotated."""
    with ExitStack() as stack:
        gemini = stack.enter_context(gemini_in_thread())
        settings = with_changes(
            Settings(),
            broker=broker,
            topic_prefix=f"{uuid4().hex[:12]}.",
            replication=replication,
            store_uri=str(folder / "lancedb"),
            session_timeout_s=6,
            commit_interval_s=0.3,
            llm="gemini",
            gemini_api_key="key",
            gemini_base_url=gemini.url,
            llm_usd_per_day=0,  # or its pacing would leave videos provisional
        )
        ensure_topics(settings)
        workers = Workers(settings, folder)
        stack.callback(workers.stop_all)
        for role in ROLES:
            workers.start(role)
        live = Live(settings, workers, gemini, proxy, report)
        stack.callback(live.close)
        for role in ROLES:
            workers.wait_until_reading(role)
        seed = Load(upload_messages(settings, live.watched), videos=ids(live.watched), shown=live.watched)
        live.suffer("none", seed, lambda _: 0)
        yield live
