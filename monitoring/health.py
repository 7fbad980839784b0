"""Whether a process is alive and ready, for whoever starts and stops it: /livez and /readyz."""

from collections.abc import Collection, Hashable, Mapping

from aiohttp import web

from monitoring import metrics
from monitoring.serve import Route


class Stall:
    """Notices that work waits and nothing moves."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._since: tuple[Hashable, float] | None = None

    def seen(self, *, waiting: bool, marks: Hashable, now_s: float) -> bool:
        """Tell whether at every look for `after_s` seconds work has waited and `marks` were the same."""
        if self._since is None or not waiting or marks != self._since[0]:
            self._since = marks, now_s
        return now_s - self._since[1] >= self._after_s


class Health:
    """What a process knows of itself. Written by any thread, read by the HTTP server's."""

    def __init__(self, waits_for: Collection[str]) -> None:
        """The process is ready when it was told so of each of `waits_for`."""
        self._not_ready = dict.fromkeys(waits_for, True)
        self._alive = True
        self.alive = True
        self._show()

    def set_ready(self, name: str, ready: bool = True) -> None:
        """Say that what goes by this name is there, or is gone."""
        self._not_ready[name] = not ready
        self._show()

    @property
    def missing(self) -> list[str]:
        """What the process is not ready for."""
        return [name for name, missing in self._not_ready.items() if missing]

    @property
    def alive(self) -> bool:
        """Whether it may go on; a process that may not should be started again."""
        return self._alive

    @alive.setter
    def alive(self, alive: bool) -> None:
        self._alive = alive
        metrics.ALIVE.set(alive)

    @property
    def routes(self) -> Mapping[str, Route]:
        """What to serve. Names only, no reasons: those are in the log, and this is for everybody to read."""
        return {"GET /livez": self._livez, "GET /readyz": self._readyz}

    async def _livez(self, _: web.BaseRequest) -> web.Response:
        return _answer([] if self.alive else ["records wait and nothing moves"])

    async def _readyz(self, _: web.BaseRequest) -> web.Response:
        return _answer(self.missing)

    def _show(self) -> None:
        metrics.READY.set(not self.missing)


def _answer(wrong: list[str]) -> web.Response:
    text = f"not: {', '.join(wrong)}\n" if wrong else "ok\n"
    return web.Response(status=503 if wrong else 200, text=text)
