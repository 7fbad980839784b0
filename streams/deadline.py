"""A deadline for calls that have none of their own."""

import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[Future[Any], Callable[[], Any]]


class Deadline:
    """Runs calls one after another in a thread of its own and waits `seconds` for each.

    A call that is not done by then goes on in its thread, for it can't be stopped; later calls wait for it within
    their own deadline, so no two ever overlap, and those that time out before they began never begin. The thread is a
    daemon: a stuck call does not keep the process from ending.
    """

    def __init__(self, seconds: float, name: str) -> None:
        self.seconds = seconds
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        Thread(target=_work, args=(self._jobs,), name=name, daemon=True).start()
        weakref.finalize(self, self._jobs.put, None)

    def run(self, call: Callable[[], T], progress: Callable[[], object] | None = None) -> T:
        """Return what `call` returns, or raise what it raises.

        A long call may take as many times `seconds` as it likes while what `progress` returns is another value at the
        end of each.

        Raises:
            TimeoutError: it is not done by the deadline.

        """
        future: Future[T] = Future()
        self._jobs.put((future, call))
        before = progress() if progress else None
        try:
            while True:
                try:
                    return future.result(self.seconds)
                except TimeoutError:
                    if future.done():
                        return future.result()  # just now; or the time-out is the call's own
                    now = progress() if progress else None
                    if now == before:
                        raise
                    before = now
        finally:
            future.cancel()  # a call that is over or under way ignores it


def _work(jobs: "SimpleQueue[_Job | None]") -> None:
    while (job := jobs.get()) is not None:
        future, call = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # handed to the caller, who raises it
                future.set_exception(error)
        del job, future, call  # an idle thread keeps no rows alive
