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
