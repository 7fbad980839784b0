"""Faults of the network between the workers and the broker; the events' own producer is behind it too."""

import signal
import time
from random import Random

from tests.faults.live import Live
from tests.faults.proxy import Proxy
from topology.settings import ROLES

SESSION_TIMEOUT_S = 6
chance = Random(3)


def test_a_broker_that_is_away_for_half_a_minute(live: Live, network: Proxy) -> None:
    def away(_: Live) -> int:
        network.refuse()
        time.sleep(30)
        network.heal()
        return 1

    live.suffer("broker down 30 s", live.plain("broker-down"), away)


def test_a_network_that_takes_100_to_200_ms_each_way(live: Live, network: Proxy) -> None:
    def slow(_: Live) -> int:
        network.delay(0.1, 0.2)
        time.sleep(10)
        network.heal()
        return 1

    live.suffer("latency 100-200 ms, 10 s", live.plain("latency"), slow)


def test_a_network_that_accepts_and_passes_nothing_for_longer_than_the_session_timeout(
    live: Live, network: Proxy
) -> None:
    def swallow(_: Live) -> int:
        network.hold()
        time.sleep(SESSION_TIMEOUT_S + 4)
        network.heal()
        return 1

    live.suffer("black hole 10 s", live.plain("black-hole"), swallow)


def test_connections_that_are_reset_in_the_midst_of_a_stream(live: Live, network: Proxy) -> None:
    def reset(_: Live) -> int:
        network.cut(0.01)
        for _ in range(12):
            time.sleep(chance.uniform(0, 1))
            network.reset()
        network.heal()
        return 12

    live.suffer("resets", live.plain("resets"), reset)


def test_workers_that_are_told_to_end_while_they_are_cut_off_end_and_lose_nothing(live: Live, network: Proxy) -> None:
    def end(live: Live) -> int:
        network.hold()
        # They can neither finish nor leave their groups, so they end as by a second SIGTERM, in 25 s at the latest; one
        # that has nothing in hand, and has given its group up already, may get done before.
        live.workers.end_all({role: live.workers.oldest(role) for role in ROLES}, codes=(-signal.SIGTERM, 0))
        network.heal()
        for role in ROLES:
            live.workers.start(role)
        return len(ROLES)

    live.suffer("SIGTERM while cut off", live.plain("cut-off"), end)
