"""Worker processes of this machine: started, watched, and ended by their pid."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from monitoring.scrape import Sample, scrape, total
from schemas.errors import VibestreamError
from topology.broker import free_port
from topology.interruption import uninterrupted
from topology.settings import Role, Settings, environment, with_changes

# A session worker that starts for the first time compiles its search: 25 to 50 s of CPU, beside the other workers. One
# that ends is noticed at once.
_START_S = 300.0
_STOP_S = 20.0


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    port: int
    log: Path


class Fleet:
    """One worker process per role, logging to files in `logs`."""

    def __init__(self, settings: Settings, logs: Path) -> None:
        self._settings = settings
        self._logs = logs
        self._workers: dict[Role, _Worker] = {}

    def start(self, roles: Iterable[Role]) -> None:
        """Start roles and return when each reads its partitions.

        Raises:
            VibestreamError: a worker ended or did not get its partitions in time; the message has the end of its log.

        """
        for role in roles:
            self.restart(role)
        deadline = time.monotonic() + _START_S
        for role in roles:
            while not self._reads(role):
                self.check()
                if time.monotonic() > deadline:
                    raise VibestreamError(f"{role} got no partitions within {_START_S:.0f} s:\n{self._tail(role)}")
                time.sleep(0.1)

    def restart(self, role: Role) -> None:
        """Start a role's worker; one that still runs is killed first, by SIGKILL."""
        last = self._workers.pop(role, None)
        if last is not None:
            last.process.kill()
            last.process.wait()
        port, log = free_port(), self._logs / f"{role}.log"
        with uninterrupted(), log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "topology.cli", "worker", role],
                env=environment(with_changes(self._settings, metrics_port=port, http_host="127.0.0.1", http_token="")),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
            self._workers[role] = _Worker(process, port, log)

    def check(self) -> None:
        """Raise VibestreamError if a worker has ended."""
        for role, worker in self._workers.items():
            code = worker.process.poll()
            if code == 2:  # it could not run, and its last line says why
                raise VibestreamError(f"the {role} worker: {self._tail(role, 1).removeprefix('vibestream: ')}")
            if code is not None:
                raise VibestreamError(f"the {role} worker ended with exit code {code}:\n{self._tail(role)}")

    def metrics(self, role: Role) -> list[Sample]:
        """Return what a worker exposes now; nothing while it does not answer."""
        try:
            return scrape(self._workers[role].port)
        except OSError:
            return []

    @property
    def addresses(self) -> dict[Role, str]:
        """Where each worker serves its metrics, host:port."""
        return {role: f"127.0.0.1:{worker.port}" for role, worker in self._workers.items()}

    def stop(self) -> None:
        """End all workers; those that don't end on SIGTERM are killed."""
        for worker in self._workers.values():
            worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        for worker in self._workers.values():
            try:
                worker.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers.clear()

    def _reads(self, role: Role) -> bool:
        return total(self.metrics(role), "vibestream_assigned_partitions") > 0

    def _tail(self, role: Role, lines: int = 15) -> str:
        return "\n".join(self._workers[role].log.read_text(errors="replace").splitlines()[-lines:])
