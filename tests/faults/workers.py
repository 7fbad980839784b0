"""Worker processes that faults are done to."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.processes import wait_until
from topology.settings import Role, Settings, environment

Worker = subprocess.Popen[bytes]


class Workers:
    """Any number of workers per role, oldest first."""

    def __init__(self, settings: Settings, logs: Path) -> None:
        self._settings = settings
        self._logs = logs
        self._running: dict[Role, list[Worker]] = {}
        self._started: Counter[Role] = Counter()
        self._leaving: list[Worker] = []

    def start(self, role: Role) -> Worker:
        with (self._logs / f"{role}.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "topology.cli", "worker", role],
                env=environment(self._settings), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._running.setdefault(role, []).append(worker)
        self._started[role] += 1
        return worker

    def wait_until_up(self, role: Role) -> None:
        """Return when all workers of a role that were ever started have come up, and so can take a SIGTERM."""
        log = self._logs / f"{role}.log"
        wait_until(lambda: log.read_text().count("metrics at") >= self._started[role], 60, f"{role} comes up")

    def of(self, role: Role) -> list[Worker]:
        return self._running.get(role, [])

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
        ended = worker or self.oldest(role)
        self._running[role].remove(ended)
        ended.send_signal(signal.SIGTERM)
        assert ended.wait(30) == 0, f"{role}:\n{self.log(role)}"

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
