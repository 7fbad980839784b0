"""Faults of processes and of the LLM under load: whatever happens, the arithmetic holds afterwards.

Every role is under load when the fault comes: new videos to annotate, review and store, and watches of videos that are
there since the beginning, so that the states of the users can be compared with those of one clean pass.
"""

import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.live import Live
from tests.processes import wait_until
from topology.settings import ROLES

Fault = Callable[[Live], int]
chance = random.Random(11)

FROZEN_S = 8
"""Longer than the session time-out."""
LLM_DOWN_S = 6


def kill_all(live: Live) -> int:
    """SIGKILL every role, in any order, at any moment."""
    for role in chance.sample(ROLES, len(ROLES)):
        time.sleep(chance.uniform(0, 1))
        live.workers.kill(role)
        live.workers.start(role)
    return len(ROLES)


def freeze_all(live: Live) -> int:
    """Stop every role for longer than the session time-out while another worker takes over, then let it go on."""
    frozen = {role: live.workers.oldest(role) for role in ROLES}
    for role, worker in frozen.items():
        worker.send_signal(signal.SIGSTOP)
        live.workers.start(role)
    time.sleep(FROZEN_S)
    for worker in frozen.values():
        worker.send_signal(signal.SIGCONT)
    return len(ROLES)


def rolling_restart(live: Live) -> int:
    """SIGTERM and start again, one role after the other."""
    for role in ROLES:
        live.workers.wait_until_reading(role)
        live.workers.end(role)
        live.workers.start(role)
    return len(ROLES)


def scale_out_and_in(live: Live) -> int:
    """From one to three annotate and session workers, and back."""
    scaled = ("annotate", "session")
    added = {role: [live.workers.start(role) for _ in range(2)] for role in scaled}
    for number in range(2):
        for role in scaled:
            live.workers.wait_until_reading(role)
        live.workers.end_all({role: workers[number] for role, workers in added.items()})
    return 2 * len(scaled)


def llm_down(live: Live) -> int:
    """For some seconds Gemini answers 503, 429 and HTML, and drops connections; reviews wait for it."""
    failures = ["overloaded", "drop", "rate_limit", "gateway", "html"] * 200
    live.gemini.script.extend(failures)
    review = live.workers.oldest("review")
    wait_until(
        lambda: live.workers.metric(review, "vibestream_llm_pauses_total") > 0, 30, "the LLM is left alone for a while"
    )
    time.sleep(LLM_DOWN_S)
    failed = len(failures) - len(live.gemini.script)
    live.gemini.script.clear()
    return failed


@pytest.mark.parametrize("fault", [kill_all, freeze_all, rolling_restart, scale_out_and_in, llm_down])
def test_nothing_is_lost_and_nothing_counts_twice(fault: Fault, live: Live) -> None:
    name = fault.__name__.replace("_", "-")
    live.suffer(name, live.plain(name), fault)
    live.workers.end_extra()
