"""The Batch endpoints of Gemini on this machine; answers are those of the synchronous fake, in reverse order."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.gemini_server import GeminiServer, _reply

Json = dict[str, Any]


@dataclass
class BatchServer:
    """Jobs stay pending until `polls` GETs were made; markers in a video's text make its request fail."""

    url: str = ""
    polls: int = 2
    ends_as: str = "BATCH_STATE_SUCCEEDED"
    refuses: int = 0
    loses_reply: bool = False
    held: bool = False
    jobs: dict[str, Json] = field(default_factory=dict)
    created: list[Json] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    modes: GeminiServer = field(default_factory=GeminiServer)

    def requests(self) -> list[Json]:
        return [one["request"] for body in self.created for one in _inlined(body)]


def _inlined(body: Json) -> list[Json]:
    return body["batch"]["inputConfig"]["requests"]["requests"]


@asynccontextmanager
async def batch_server() -> AsyncIterator[BatchServer]:
    """Serve on a free port of 127.0.0.1."""
    server = BatchServer()

    async def create(request: web.Request) -> web.Response:
        body = await request.json()
        if server.refuses:
            error = {"code": server.refuses, "message": "no", "status": "INVALID_ARGUMENT"}
            return web.json_response({"error": error}, status=server.refuses)
        server.created.append(body)
        name = f"batches/{len(server.created)}"
        server.jobs[name] = body
        if server.loses_reply and request.transport is not None:
            server.loses_reply = False
            request.transport.close()
        return web.json_response(_operation(server, name, "BATCH_STATE_PENDING"))

    async def get(request: web.Request) -> web.Response:
        name = f"batches/{request.match_info['name']}"
        if name not in server.jobs:
            return web.json_response({"error": {"code": 404, "message": "no job", "status": "NOT_FOUND"}}, status=404)
        server.seen[name] = server.seen.get(name, 0) + 1
        pending = server.held or server.seen[name] <= server.polls
        return web.json_response(_operation(server, name, "BATCH_STATE_RUNNING" if pending else server.ends_as))

    async def listed(_: web.Request) -> web.Response:
        return web.json_response(
            {"operations": [_operation(server, name, "BATCH_STATE_RUNNING") for name in server.jobs]}
        )

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1beta/models/{call:.+}", create)
    app.router.add_get("/v1beta/batches/{name}", get)
    app.router.add_get("/v1beta/batches", listed)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def _operation(server: BatchServer, name: str, state: str) -> Json:
    body = server.jobs[name]
    metadata: Json = {"state": state, "displayName": body["batch"]["displayName"], "model": "models/x"}
    if state == "BATCH_STATE_SUCCEEDED":
        replies = [_answer(server, one) for one in reversed(_inlined(body))]
        metadata["output"] = {"inlinedResponses": {"inlinedResponses": replies}}
    return {"name": name, "metadata": metadata, "done": state not in ("BATCH_STATE_PENDING", "BATCH_STATE_RUNNING")}


def _answer(server: BatchServer, one: Json) -> Json:
    message = one["request"]["contents"][0]["parts"][0]["text"]
    mode = server.modes.mode(message)
    if mode == "failed":
        return {"error": {"code": 13, "message": "internal"}, "metadata": one["metadata"]}
    if mode == "lost":
        return {"response": {}, "metadata": {}}
    prompt = (len(message) + len(json.dumps(one["request"].get("systemInstruction", "")))) // 4
    reply = _reply(message, "ok" if mode == "no_usage" else mode, prompt)
    if mode == "no_usage":
        del reply["usageMetadata"]
    return {"response": reply, "metadata": one["metadata"]}
