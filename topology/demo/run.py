"""The demo: a broker, one worker per role, events through all of it, and an account of them."""

import shutil
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import takewhile
from pathlib import Path
from tempfile import mkdtemp
from threading import Event

import msgspec
from rich.console import Console
from rich.progress import TaskID

from schemas.annotation import Annotation
from schemas.attributes import load_catalogue
from schemas.candidates import SessionCandidates
from schemas.events import VideoUpload, WatchEvent
from schemas.wire import Decoder, encode
from streams.clock import now_ms
from streams.record import Message
from topology.attribute_store import open_table
from topology.audit import audit
from topology.broker import embedded_broker
from topology.console import console, progress
from topology.demo.flow import Flow
from topology.demo.flow import Progress as FlowProgress
from topology.demo.scenario import Scenario
from topology.demo.show import show_annotations, show_session
from topology.demo.summary import CandidateSummary, Summary, summarize
from topology.fleet import Fleet
from topology.interruption import interrupt_by_sigterm, uninterrupted
from topology.kafka import read_topic
from topology.producer import ConfirmedProducer
from topology.replay import send
from topology.settings import ROLES, Settings, variable, with_changes
from topology.topics import ANNOTATIONS, SESSION_CANDIDATES, VIDEO_UPLOADS, WATCH_EVENTS, ensure_topics

_EXAMPLES = 4
_LOOK_S = 1.0


def run_demo(scenario: Scenario, settings: Settings, json_file: Path | None, *, stay: bool = False) -> int:
    """Play a scenario, print examples and the summary; return 0 if everything is accounted for, else 1.

    Without a configured broker, the embedded one runs for as long as the demo. On a configured cluster the topics get a
    prefix of their own, and stay. With `stay` everything runs on, to be scraped and looked at, until it is interrupted.
    SIGTERM interrupts as SIGINT does: workers and broker end with it.
    """
    interrupt_by_sigterm()
    out = Console()
    out.print(scenario.note)
    with _workspace() as folder, ExitStack() as stack:
        own_broker = settings.broker == Settings().broker
        with uninterrupted():
            broker = stack.enter_context(embedded_broker()) if own_broker else settings.broker
        settings = with_changes(
            settings,
            broker=broker,
            topic_prefix=settings.topic_prefix if own_broker else f"{settings.topic_prefix}demo-{now_ms()}.",
            store_uri=str(folder / "lancedb"),
            **scenario.changes,
        )
        ensure_topics(settings)
        fleet = Fleet(settings, folder)
        stack.callback(fleet.stop)
        with console.status("starting one worker per role; the first time it takes a minute, to compile the search"):
            fleet.start(ROLES)
        _play(scenario, settings, fleet)
        summary = _account(scenario, settings, fleet, out)
        if json_file is not None:
            json_file.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
        if stay:
            _stay(settings, fleet, out)
    return 1 if summary.uploads.lost or summary.store.duplicates else 0


@contextmanager
def _workspace() -> Generator[Path]:
    """A folder for the store and the logs, which stays only when something went wrong."""
    folder = Path(mkdtemp(prefix="vibestream-demo-"))
    try:
        yield folder
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except Exception:
        console.print(f"the workers' logs are in {folder}")
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _stay(settings: Settings, fleet: Fleet, out: Console) -> None:
    targets = ", ".join(f'"{address}"' for address in fleet.addresses.values())
    out.print("Everything runs on until Ctrl-C or SIGTERM. For Prometheus:\n", markup=False)
    out.print(
        f"scrape_configs: [{{job_name: vibestream, static_configs: [{{targets: [{targets}]}}]}}]",
        soft_wrap=True,
        markup=False,
    )
    ours = {name: getattr(settings, name) for name in ("broker", "topic_prefix", "store_uri")}
    set_here = " ".join(f"{variable(name)}={value}" for name, value in ours.items() if value)
    out.print(f"\nThe page, in another shell: {set_here} vibestream ui", soft_wrap=True, markup=False)
    with suppress(KeyboardInterrupt):
        while True:
            fleet.check()
            time.sleep(_LOOK_S)


def _play(scenario: Scenario, settings: Settings, fleet: Fleet) -> None:
    uploads = [Message(settings.topic(VIDEO_UPLOADS), u.video_id.encode(), encode(u)) for u in scenario.uploads]
    watches = [Message(settings.topic(WATCH_EVENTS), w.user_id.encode(), encode(w)) for w in scenario.watches]
    producer, flow, over = ConfirmedProducer(settings), Flow(settings), Event()
    with progress() as bars, ThreadPoolExecutor(1) as sender:
        tasks = {
            name: bars.add_task(name, total=count)
            for name, count in (
                ("uploads sent", len(uploads)),
                ("annotated by the student", len(uploads)),
                ("reviewed by the LLM", None),
                ("in the store", None),
                ("watches sent", len(watches)),
                ("watches answered", len(watches)),
            )
        }

        def send_all() -> None:
            for name, messages, rate in (
                ("uploads sent", uploads, scenario.upload_rate),
                ("watches sent", watches, scenario.watch_rate),
            ):
                until_over = takewhile(lambda _: not over.is_set(), messages)
                send(producer, until_over, rate, partial(bars.advance, tasks[name]))

        def show(now: FlowProgress) -> None:
            counts: dict[TaskID, tuple[int, int | None]] = {
                tasks["annotated by the student"]: (now.annotated, len(uploads)),
                tasks["reviewed by the LLM"]: (now.reviewed, now.review_requests),
                tasks["in the store"]: (now.stored, now.annotations),
                tasks["watches answered"]: (now.watched, len(watches)),
            }
            for task, (done, of) in counts.items():
                bars.update(task, completed=done, total=of)

        sending = sender.submit(send_all)

        def check() -> None:
            fleet.check()
            if sending.done():
                sending.result()

        try:
            flow.wait(len(uploads), len(watches), show, check)
        finally:
            over.set()  # a demo that is interrupted does not wait for the rest to be sent
        sending.result()
    flow.close()
    producer.close()


def _account(scenario: Scenario, settings: Settings, fleet: Fleet, out: Console) -> Summary:
    table = open_table(settings, load_catalogue(settings.catalogue_path))
    with console.status("reading the topics and the store"):
        result = audit(settings, table)
        annotations = _annotations(settings)
        lists = _lists(settings)
    uploads = {upload.video_id: upload for upload in scenario.uploads}
    watches: dict[str, list[WatchEvent]] = defaultdict(list)
    for watch in scenario.watches:
        watches[watch.session_id].append(watch)
    show_annotations(out, uploads, _telling(uploads, annotations))
    last_of_user = {made.user_id: made for made in lists}
    for made in sorted(last_of_user.values(), key=lambda made: (len(made.quotas), made.session_id))[-2:]:
        show_session(out, uploads, annotations, _until(watches[made.session_id], made.event_id), made)
    for example in result.examples:
        out.print(f"does not add up: {example}", style="bold red")
    summary = summarize(
        result,
        len(scenario.uploads),
        CandidateSummary(len(lists), sum(not made.candidates for made in lists)),
        settings.llm,
        fleet.metrics("review"),
        fleet.metrics("store"),
        fleet.metrics("session"),
    )
    out.print_json(msgspec.json.encode(summary).decode())
    return summary


def _annotations(settings: Settings) -> dict[str, Annotation]:
    decoder, newest = Decoder(Annotation), dict[str, Annotation]()
    for record in read_topic(settings, ANNOTATIONS):
        annotation = decoder.decode(record.value or b"")
        known = newest.get(annotation.video_id)
        if known is None or annotation.seq > known.seq:
            newest[annotation.video_id] = annotation
    return newest


def _lists(settings: Settings) -> list[SessionCandidates]:
    decoder = Decoder(SessionCandidates)
    return [decoder.decode(record.value or b"") for record in read_topic(settings, SESSION_CANDIDATES)]


def _telling(uploads: dict[str, VideoUpload], annotations: dict[str, Annotation]) -> list[Annotation]:
    """Pick some that the student settled and some that the LLM did, each for an attribute not shown yet."""
    chosen: list[Annotation] = []
    for source in ("student", "llm"):
        shown: set[str] = set()
        for video_id in uploads:
            annotation = annotations.get(video_id)
            if annotation is None or annotation.source != source or len(shown) >= _EXAMPLES:
                continue
            scores = annotation.attributes
            present = [name for name, score in scores.items() if score.label and score.source == source]
            if present and not shown & set(present):
                shown.update(present[:1])
                chosen.append(annotation)
    return chosen


def _until(watches: Sequence[WatchEvent], event_id: str) -> list[WatchEvent]:
    ids = [watch.event_id for watch in watches]
    return list(watches[: ids.index(event_id) + 1])
