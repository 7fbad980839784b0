"""A broker that is away fills no log."""

import logging
from contextlib import ExitStack

from tests.processes import wait_until
from topology.broker import embedded_broker
from topology.fleet import Fleet
from topology.repeated import Seldom
from topology.settings import Settings, with_changes
from topology.topics import ensure_topics

WARNING = logging.WARNING


def record(name: str, text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(name, WARNING, __file__, 1, text, args, None)


def test_a_kind_of_message_passes_once_in_a_while_and_says_how_many_were_left_out() -> None:
    now = 0.0
    seldom = Seldom(10.0, lambda: now)
    first, again, other = (
        record("aiokafka", "no node %s", 1),
        record("aiokafka", "no node %s", 2),
        record("aiokafka", "x"),
    )
    assert [seldom.filter(one) for one in (first, again, again, other)] == [True, False, False, True]
    now = 10.0
    later = record("aiokafka", "no node %s", 3)
    assert seldom.filter(later)
    assert later.getMessage() == "no node 3 (2 more since the last of these)"
    now = 20.0
    last = record("aiokafka", "no node %s", 4)
    assert seldom.filter(last)
    assert last.getMessage() == "no node 4"


def test_what_others_say_is_logged_as_often_as_they_say_it() -> None:
    seldom = Seldom()
    assert all(
        seldom.filter(record(name, "the same")) for name in ("topology.worker", "aiokafkaesque") for _ in range(3)
    )


def test_a_worker_whose_broker_is_away_logs_a_few_lines(tmp_path) -> None:
    log = tmp_path / "annotate.log"
    with ExitStack() as stack:
        with embedded_broker() as url:
            settings = with_changes(Settings(), broker=url)
            ensure_topics(settings)
            fleet = Fleet(settings, tmp_path)
            stack.callback(fleet.stop)
            fleet.start(["annotate"])
        wait_until(lambda: "more since the last of these" in log.read_text(), 60, "it was away for a while")
    said = [line for line in log.read_text().splitlines() if " aiokafka" in line]
    assert len(said) < 60  # it tries ten times a second, in four places
