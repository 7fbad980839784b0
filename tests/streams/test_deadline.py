from threading import Event

import pytest

from streams.deadline import Deadline
from tests.processes import wait_until


def test_results_and_errors_come_back():
    deadline = Deadline(10, "test")

    assert deadline.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        deadline.run(lambda: 1 / 0)


def test_a_stuck_call_is_given_up_and_later_ones_never_overlap_it():
    deadline, release, ran = Deadline(0.1, "test"), Event(), list[str]()

    def stuck() -> None:
        release.wait(30)
        ran.append("stuck")

    with pytest.raises(TimeoutError):
        deadline.run(stuck)
    with pytest.raises(TimeoutError):
        deadline.run(lambda: ran.append("too late to begin"))
    release.set()
    wait_until(lambda: ran == ["stuck"], 10, "the stuck call is over")
    deadline.run(lambda: ran.append("next"))

    assert ran == ["stuck", "next"]


def test_a_long_call_may_go_on_while_it_makes_progress():
    deadline, counts = Deadline(0.05, "test"), iter(range(1_000))
    seen = list[int]()

    def progress() -> int:
        seen.append(next(counts))
        return seen[-1]

    assert deadline.run(lambda: wait_until(lambda: len(seen) > 3, 30, "asked for its progress"), progress) is None


def test_a_long_call_that_stands_still_is_given_up():
    deadline, release = Deadline(0.1, "test"), Event()

    with pytest.raises(TimeoutError):
        deadline.run(lambda: release.wait(30), lambda: "the same")
    release.set()
