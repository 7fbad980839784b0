import urllib.error
import urllib.request
from pathlib import Path

from streams.record import Message
from tests.processes import Processes, wait_until
from topology.broker import free_port
from topology.producer import ConfirmedProducer
from topology.settings import Settings, with_changes
from topology.topics import VIDEO_UPLOADS

COPY = str(Path(__file__).parents[1] / "fakes" / "copy_worker.py")


def ask(port: int, path: str) -> int:
    """The status; 0 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


def test_a_worker_with_records_and_no_progress_is_not_alive_and_an_idle_one_is(
    settings: Settings, producer: ConfirmedProducer, processes: Processes, tmp_path: Path
) -> None:
    port, idle_port = free_port(), free_port()
    stuck = with_changes(settings, stall_s=1.5, metrics_port=port)
    idle = with_changes(stuck, topic_prefix=settings.topic_prefix, metrics_port=idle_port)
    processes.start(stuck, COPY, "stuck", log=tmp_path / "stuck.log")
    wait_until(lambda: ask(port, "/readyz") == 200, 150, "the worker is ready")
    assert ask(port, "/livez") == 200
    producer.produce_now([Message(settings.topic(VIDEO_UPLOADS), b"k", b"v")])
    wait_until(lambda: ask(port, "/livez") == 503, 30, "the stall is noticed")
    assert ask(port, "/readyz") == 200
    # A role whose topic is empty has nothing to do for as long.
    processes.start(idle, "-m", "topology.cli", "worker", "store", log=tmp_path / "idle.log")
    wait_until(lambda: ask(idle_port, "/readyz") == 200, 150, "the store worker is ready")
    assert "no offset moved" in (tmp_path / "stuck.log").read_text()
    assert "no offset moved" not in (tmp_path / "idle.log").read_text()
    assert ask(idle_port, "/livez") == 200


def test_a_store_worker_is_ready_only_while_its_store_answers(
    settings: Settings, processes: Processes, tmp_path: Path
) -> None:
    port = free_port()
    log = tmp_path / "store.log"
    processes.start(
        with_changes(settings, metrics_port=port, stall_s=1.5), "-m", "topology.cli", "worker", "store", log=log
    )
    wait_until(lambda: ask(port, "/readyz") == 200, 150, "the worker is ready")
    store = Path(settings.store_uri)
    away = store.rename(tmp_path / "away")
    store.write_text("no folder")
    wait_until(lambda: ask(port, "/readyz") == 503, 30, "the missing store is noticed")
    assert ask(port, "/livez") == 200, "a restart brings no store back"
    store.unlink()
    away.rename(store)
    wait_until(lambda: ask(port, "/readyz") == 200, 30, "the store is back")
