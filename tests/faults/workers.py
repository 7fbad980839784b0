"""Worker processes that faults are done to."""

import math
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from monitoring.scrape import scrape, total
from tests.processes import wait_until
from topology.broker import free_port
from topology.settings import Role, Settings, environment, with_changes

Worker = subprocess.Popen[bytes]
_START_S = 150
_END_S = 40


class Workers:
    """Any number of workers per role, oldest first."""

    def __init__(self, settings: Settings, logs: Path) -> None:
        self._settings = settings
        self._logs = logs
        self._running: dict[Role, list[Worker]] = {}
        self._started: Counter[Role] = Counter()
        self._leaving: list[Worker] = []
        self._ports: dict[int, int] = {}

    def start(self, role: Role) -> Worker:
        port = free_port()
        with (self._logs / f"{role}.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "topology.cli", "worker", role],
                env=environment(with_changes(self._settings, metrics_port=port)),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._ports[worker.pid] = port
        self._running.setdefault(role, []).append(worker)
        self._started[role] += 1
        return worker

    def wait_until_up(self, role: Role) -> None:
        """Return when all workers of a role that were ever started have come up, and so can take a SIGTERM."""
        log = self._logs / f"{role}.log"
        wait_until(lambda: log.read_text().count("metrics at") >= self._started[role], _START_S, f"{role} comes up")

    def of(self, role: Role) -> list[Worker]:
        return self._running.get(role, [])

    def metric(self, worker: Worker, name: str) -> float:
        """A metric of a worker, summed over its labels; NaN while the worker does not answer."""
        try:
            return total(scrape(self._ports[worker.pid]), name)
        except OSError:
            return math.nan

    def wait_until_reading(self, role: Role) -> None:
        """Return when the workers of a role have shared out its partitions, each some.

        The embedded broker keeps a group waiting for a member that ends while it joins.
        """

        def reads() -> bool:
            self.check()
            shares = [self.metric(worker, "vibestream_assigned_partitions") for worker in self.of(role)]
            return min(shares) > 0 and sum(shares) == self._settings.partitions

        wait_until(reads, _START_S, f"{role} gets its partitions")

    def forget(self, role: Role, worker: Worker) -> None:
        """Leave a worker that was told to end to itself; `stop_all` still makes sure of it."""
        self._running[role].remove(worker)
        self._leaving.append(worker)

    def oldest(self, role: Role) -> Worker:
        return self._running[role][0]

    def kill(self, role: Role) -> None:
        worker = self._running[role].pop(0)
        worker.kill()
        worker.wait()

    def end(self, role: Role, worker: Worker | None = None) -> None:
        """SIGTERM, which must end in exit code 0 within the time for draining."""
        self.end_all({role: worker or self.oldest(role)})

    def end_all(self, ending: Mapping[Role, Worker], codes: Sequence[int] = (0,)) -> None:
        """The same to one worker per role at once, each of which must end in one of `codes`."""
        for role, worker in ending.items():
            self._running[role].remove(worker)
            worker.send_signal(signal.SIGTERM)
        wrong = {role: ended for role, worker in ending.items() if (ended := _waited(worker)) not in codes}
        logs = "".join(f"\n{role}:\n{self.log(role)}" for role in wrong)
        assert not wrong, f"ended with {wrong} instead of {codes}:{logs}"

    def end_extra(self) -> None:
        """End all but the youngest worker of each role."""
        while extra := {role: workers[0] for role, workers in self._running.items() if len(workers) > 1}:
            for role in extra:
                self.wait_until_reading(role)
            self.end_all(extra)

    def check(self) -> None:
        for role, workers in self._running.items():
            for worker in workers:
                assert worker.poll() is None, f"{role} ended with {worker.returncode}:\n{self.log(role)}"

    def log(self, role: Role) -> str:
        return "\n".join((self._logs / f"{role}.log").read_text(errors="replace").splitlines()[-25:])

    def stop_all(self) -> None:
        for worker in [*self._leaving, *(worker for workers in self._running.values() for worker in workers)]:
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait()


def _waited(worker: Worker) -> int | str:
    """Return its exit code; one that does not end in time is killed."""
    try:
        return worker.wait(_END_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
        return f"nothing for {_END_S} s"
