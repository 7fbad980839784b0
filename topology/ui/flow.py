"""The first view: rates, lag and latency now, as one piece of HTML that is sent again every second."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from jinja2 import Environment
from markupsafe import Markup

from streams.clock import now_ms
from topology.topics import (
    ANNOTATIONS,
    DEAD_LETTERS,
    REVIEW_REQUESTS,
    SESSION_CANDIDATES,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)
from topology.ui.pages import over_time
from topology.ui.recent import Recent
from topology.ui.tail import Tail
from topology.ui.timeline import Counts, Latencies

_EVERY_S = 1.0
_SHOWN = 12


class FlowPages:
    """Serves the view and its stream of server-sent events."""

    def __init__(self, templates: Environment, recent: Recent, tail: Tail) -> None:
        self._page = templates.get_template("flow.html")
        self._piece = templates.get_template("flow_now.html")
        self._recent = recent
        self._tail = tail
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the streams: a browser keeps one open for ever."""
        self._stopping.set()

    async def page(self, _: web.Request) -> web.Response:
        """Return the view as it is now."""
        return web.Response(text=self._page.render(view="flow", **self._now()), content_type="text/html")

    async def live(self, request: web.Request) -> web.StreamResponse:
        """Send its moving part every second until the browser leaves."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while not self._stopping.is_set():
            lines = self._piece.render(**self._now()).splitlines()
            try:
                await response.write("".join(f"data: {line}\n" for line in lines).encode() + b"\n")
            except ConnectionError:
                break
            try:
                await asyncio.wait_for(self._stopping.wait(), _EVERY_S)
            except TimeoutError:
                continue
        return response

    def _now(self) -> dict[str, Any]:
        now, counts = now_ms(), self._recent.counts
        rates = {name: count.rate(now) for name, count in counts.items()}
        decided = {name: self._recent.statuses.get(name, 0) for name in ("final by student", "final by llm")}
        final = sum(decided.values())
        return {
            "at": now,
            "trouble": self._tail.trouble,
            "uploads": rates[VIDEO_UPLOADS],
            "annotations": rates[ANNOTATIONS],
            "reviews": rates[REVIEW_REQUESTS],
            "watches": rates[WATCH_EVENTS],
            "lists": rates[SESSION_CANDIDATES],
            "dead": counts[DEAD_LETTERS].total,
            "by_llm": decided["final by llm"] / final if final else None,
            "annotated": [self._recent.annotated.quantile(now, q) for q in (0.5, 0.99)],
            "listed": [self._recent.listed.quantile(now, q) for q in (0.5, 0.99)],
            "lags": self._tail.lags,
            "charts": [
                _rates("Uploads and annotations a second", counts, (VIDEO_UPLOADS, ANNOTATIONS), now),
                _latencies("Upload to first annotation, ms", self._recent.annotated, now),
                _rates("Watches and candidate lists a second", counts, (WATCH_EVENTS, SESSION_CANDIDATES), now),
                _latencies("Watch to candidate list, ms", self._recent.listed, now),
            ],
            "latest": self._recent.latest(_SHOWN),
        }


_Chart = tuple[str, Sequence[str], Markup]


def _rates(title: str, counts: Mapping[str, Counts], topics: Sequence[str], now: int) -> _Chart:
    return title, topics, over_time(title, [counts[name].points(now) for name in topics])


def _latencies(title: str, latencies: Latencies, now: int) -> _Chart:
    return title, ("p50", "p99"), over_time(title, [latencies.points(now, q) for q in (0.5, 0.99)])
